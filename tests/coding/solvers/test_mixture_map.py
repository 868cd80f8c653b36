"""Restoration under a mixture: against a dense Gaussian formula, kind by kind."""

import numpy as np
import pytest
import torch

from nid_dist.coding.mixture import Mixture
from nid_dist.coding.solvers.mixture_map import restore
from nid_dist.coding.solvers.subspace import Subspace


def test_restoration_is_the_posterior_of_a_dense_formula() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    points, channels, directions, noise = 4, 2, 3, 0.2
    space = Subspace(draw(points, channels), draw(points, channels, directions), torch.full((points,), 0.01))
    look = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    seen = Subspace(look @ space.mean, torch.einsum("mc,cdq->mdq", look, space.basis), torch.full((2,), 0.005))
    factors = draw(2, directions, directions).tril() + 2 * torch.eye(directions)
    mixture = Mixture(torch.tensor([0.4, 0.6]), draw(2, directions), factors)
    measured = draw(5, 2, channels)
    found = restore(space, seen, mixture, measured, noise)

    basis = space.basis.double().flatten(0, 1).numpy()
    operator = np.kron(look.numpy(), np.eye(channels))
    cloud = (noise**2 + 0.005) * np.eye(4)
    for one, values, deviation in zip(measured, found.values, found.deviation, strict=True):
        y, scores, means, variances = one.double().flatten().numpy(), [], [], []
        for k in range(2):
            covariance = basis @ (factors[k] @ factors[k].t()).double().numpy() @ basis.T
            mean = space.mean.double().flatten().numpy() + basis @ mixture.means[k].double().numpy()
            gram = operator @ covariance @ operator.T + cloud
            rest = y - operator @ mean
            log = -0.5 * rest @ np.linalg.solve(gram, rest) - 0.5 * np.log(np.linalg.det(gram))
            scores.append(float(mixture.weights[k]) * np.exp(log))
            means.append(mean + covariance @ operator.T @ np.linalg.solve(gram, rest))
            variances.append(
                np.diag(covariance - covariance @ operator.T @ np.linalg.solve(gram, operator @ covariance))
            )
        share = np.array(scores) / sum(scores)
        share = np.where(share < 0.02, 0, share)
        share /= share.sum()
        mean = share @ np.array(means)
        assert values.flatten().numpy() == pytest.approx(mean, abs=2e-4)
        variance = share @ (np.array(variances) + np.array(means) ** 2) - mean**2
        expected = np.sqrt(variance.reshape(points, channels).mean(1) + 0.01)
        assert deviation.numpy() == pytest.approx(expected, abs=2e-3)
