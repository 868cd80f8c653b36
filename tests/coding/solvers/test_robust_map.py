"""Robust heads under the prior against a dense oracle, and outliers that lose their weight."""

import numpy as np
import torch

from nid_dist.coding.prior import Prior
from nid_dist.coding.solvers.robust_map import solve_robust_map
from nid_dist.measurements.sampling import Sampling
from tests.dictionary import oracle

H = 6


def setting() -> tuple[torch.nn.Module, Prior, torch.Tensor, torch.Tensor]:
    dictionary = oracle.make_dictionary(d=1, experts=30, width=H, private_layers=1, shared_layers=1, features=8, seed=1)
    dictionary = dictionary.double()
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(H + 1, 2, generator=generator, dtype=torch.float64)).Q
    mean = torch.randn(H + 1, generator=generator, dtype=torch.float64)
    prior = Prior(mean, basis, torch.tensor([4.0, 2.0]).double(), torch.tensor(0.5).double())
    coords = 2 * torch.rand(60, 2, generator=generator, dtype=torch.float64) - 1
    head = mean + basis @ torch.tensor([1.5, -1.0], dtype=torch.float64)
    features = torch.cat([dictionary.trunk(coords), torch.ones(60, 1).double()], 1)
    return dictionary, prior, coords, (features @ head).detach()[:, None]


def test_without_outliers_it_is_the_posterior_mean() -> None:
    dictionary, prior, coords, values = setting()
    weights = torch.rand(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
    found = solve_robust_map(
        dictionary, Sampling(coords), values, prior, noise=10.0, k=H, blocks=None, weights=weights, iterations=1
    )
    with torch.no_grad():
        features = torch.cat([dictionary.trunk(coords), torch.ones(60, 1).double()], 1).numpy()
    covariance = 0.5 * np.eye(H + 1) + prior.basis.numpy() @ np.diag([3.5, 1.5]) @ prior.basis.numpy().T
    precision = np.linalg.inv(covariance)
    weighted = features.T * weights.numpy() / 100
    expected = np.linalg.solve(
        precision + weighted @ features, precision @ prior.mean.numpy() + weighted @ values[:, 0].numpy()
    )
    np.testing.assert_allclose(found.head.numpy(), expected, rtol=1e-6, atol=1e-9)
    # As many coefficients as features: the code is the head itself.
    with torch.no_grad():
        of_code = dictionary(found.code, coords)[0, :, 0].numpy()
    np.testing.assert_allclose(of_code, features @ expected, rtol=1e-5, atol=1e-6)


def test_outliers_lose_their_weight() -> None:
    dictionary, prior, coords, values = setting()
    spoiled = values.clone()
    spoiled[:6] += 40
    robust = solve_robust_map(dictionary, Sampling(coords), spoiled, prior, noise=0.05, k=H, iterations=30)
    assert robust.trust[:6].max() < 0.01 and robust.trust[6:].min() > 0.2
    with torch.no_grad():
        error = (dictionary(robust.code, coords)[0] - values).abs()[6:].max()
    assert error < 0.3
    assert (robust.code.values != 0).sum() <= H
