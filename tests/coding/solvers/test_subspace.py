"""Directions of a prior as functions, and posteriors against the dense formula of Gaussian conditioning."""

import math

import torch

from nid_dist.coding.prior import Prior
from nid_dist.coding.solvers.subspace import observe, subspace
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.dictionary.dictionary import Dictionary

COORDS = coordinate_grid((5, 4))


def make(directions: int = 3) -> tuple[Dictionary, Prior]:
    generator = torch.Generator().manual_seed(0)
    config = DictionaryConfig(experts=8, width=6, encoding=Encoding(kind="fourier", features=4, scale=3.0))
    dictionary = Dictionary(config, 2, 2, generator)
    size = 2 * 6 + 2
    basis = torch.linalg.qr(torch.randn(size, directions, generator=generator, dtype=torch.float64)).Q
    variances = torch.linspace(2, 1, directions, dtype=torch.float64)
    return dictionary, Prior(
        torch.randn(size, generator=generator).double(), basis, variances, torch.tensor(1e-3).double()
    )


def dense(dictionary: Dictionary, heads: torch.Tensor) -> torch.Tensor:
    """f of merged heads [r, q] at the coordinates, [C, d, q], by hand."""
    phi = dictionary.trunk(COORDS).double().detach()
    return torch.stack([phi @ heads[6 * c : 6 * c + 6] + heads[12 + c] for c in range(2)], 1)


def test_directions_are_functions() -> None:
    dictionary, prior = make()
    space = subspace(dictionary, prior, COORDS)
    torch.testing.assert_close(
        space.mean.double(), dense(dictionary, prior.mean[:, None])[..., 0], rtol=1e-4, atol=1e-5
    )
    expected = dense(dictionary, prior.basis * prior.variances.sqrt())
    torch.testing.assert_close(space.basis.double(), expected, rtol=1e-4, atol=1e-5)
    phi = dictionary.trunk(COORDS).detach()
    torch.testing.assert_close(space.beside, 1e-3 * (phi.square().sum(1) + 1))


def test_it_is_gaussian_conditioning() -> None:
    dictionary, prior = make()
    space = subspace(dictionary, prior, COORDS)
    measured, weights, noise = torch.randn(4, 20, 2), torch.rand(4, 20).round(decimals=1), 0.3
    measured[weights == 0] = math.nan
    seen = observe(space, measured, weights, noise)
    basis, mean = space.basis.flatten(0, 1).double(), space.mean.flatten().double()
    covariance = basis @ basis.t()
    for t in range(4):
        known = (weights[t] > 0).repeat_interleave(2)
        variance = (noise**2 / weights[t] + space.beside).repeat_interleave(2)[known].double()
        inner = covariance[known][:, known] + torch.diag(variance)
        gain = covariance[:, known] @ torch.linalg.inv(inner)
        expected = mean + gain @ (measured[t].flatten()[known].double() - mean[known])
        torch.testing.assert_close(seen.values[t].flatten().double(), expected, rtol=1e-3, atol=1e-4)
        left = (covariance - gain @ covariance[known]).diagonal().unflatten(0, (20, 2)).mean(1)
        deviation = (left + space.beside.double()).sqrt()
        torch.testing.assert_close(seen.deviation[t].double(), deviation, rtol=1e-3, atol=1e-4)


def test_nothing_measured_is_the_prior() -> None:
    dictionary, prior = make()
    space = subspace(dictionary, prior, COORDS)
    seen = observe(space, torch.full((1, 20, 2), math.nan), torch.zeros(1, 20), 0.1)
    torch.testing.assert_close(seen.values[0], space.mean)
    assert observe(space, torch.zeros(0, 20, 2), torch.zeros(0, 20), 0.1).values.shape == (0, 20, 2)
