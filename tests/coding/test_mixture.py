"""Kinds of signals: found in a sample whose kinds are known, and kept as they are."""

import numpy as np
import pytest
import torch

from nid_dist.coding.mixture import StoredMixture, learn_mixture, log_density
from nid_dist.coding.prior import learn_prior


def test_two_kinds_are_told_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    kind = torch.arange(4000) % 2
    # Both vary as much, one along the first direction and the other along the second.
    spread = torch.tensor([[3.0, 0.3], [0.3, 3.0]])[kind]
    heads = torch.cat([spread * torch.randn(4000, 2, generator=generator), torch.zeros(4000, 1)], 1)
    prior = learn_prior(heads, 2)
    # A variation and its negative are two clusters.
    mixture = learn_mixture(prior, heads, 4, channels=1)
    assert mixture.weights.sum().item() == pytest.approx(1, abs=1e-5)
    latent = (heads - prior.mean.float()) @ prior.basis.float() / prior.variances.float().sqrt()
    scores = [log_density(f, latent - m) for f, m in zip(mixture.factors, mixture.means, strict=True)]
    found = torch.stack(scores, 1).argmax(1)
    agree = [max((kind[found == k] == side).float().sum().item() for side in (0, 1)) for k in range(4)]
    assert sum(agree) / len(kind) > 0.9


def test_the_density_is_that_of_numpy() -> None:
    root = torch.tensor([[1.5, 0.0], [0.4, 0.7]])
    covariance, point = (root @ root.t()).numpy().astype(float), np.array([0.3, -1.2])
    expected = -0.5 * (point @ np.linalg.solve(covariance, point) + np.log(np.linalg.det(2 * np.pi * covariance)))
    assert log_density(root, torch.tensor(point[None]).float()).item() == pytest.approx(expected, rel=1e-5)


def test_few_signals_are_of_one_kind() -> None:
    heads = torch.randn(150, 5, generator=torch.Generator().manual_seed(0))
    prior = learn_prior(heads, 3)
    mixture = learn_mixture(prior, heads, 8, channels=1)
    assert mixture.weights.tolist() == [1.0]
    # About all signals, which is what the coordinates are standard deviations of.
    assert torch.allclose(mixture.factors[0] @ mixture.factors[0].t(), torch.eye(3), atol=1e-2)
    stored = StoredMixture(4, 6)
    assert stored.value is None
    stored.set(mixture)
    assert stored.value is not None and torch.equal(stored.value.factors, mixture.factors)
