"""Dense heads against least squares with numpy, in shared coordinates, in each signal's own, and with weights."""

import numpy as np
import pytest
import torch

from nid_dist.coding.solvers.dense import solve_heads
from nid_dist.samples import Samples


def expected(features: np.ndarray, values: np.ndarray, weights: np.ndarray, ridge: float) -> np.ndarray:
    """One signal: minimise over W and c the weighted mean of |W phi + c - y|^2, plus the ridge on W."""
    share = weights / weights.sum()
    centred = features - share @ features
    gram = (centred * share[:, None]).T @ centred
    weight = np.linalg.solve(
        gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), (centred * share[:, None]).T @ values
    )
    return np.concatenate([weight.T.reshape(-1), share @ values - share @ features @ weight])


@pytest.mark.parametrize("kind", ["shared", "own", "few of one's own", "weighted"])
def test_heads_are_those_of_least_squares(make_setting, kind):
    setting = make_setting(count=40)
    generator = np.random.default_rng(0)
    count = 5 if kind == "few of one's own" else 40
    coords, values = generator.uniform(-1, 1, (3, count, 2)), generator.standard_normal((3, count, 2))
    weights = generator.uniform(0, 1, (3, count)) if kind == "weighted" else np.ones((3, count))
    if kind in ("shared", "weighted"):
        coords[1:] = coords[0]
    shared = torch.from_numpy(coords[0] if kind in ("shared", "weighted") else coords)
    given = torch.from_numpy(weights) if kind == "weighted" else None
    experts = setting.dictionary.experts
    found = solve_heads(setting.dictionary.trunk, experts, Samples(shared, torch.from_numpy(values), given), 1e-3)
    for place in range(3):
        with torch.no_grad():
            features = setting.dictionary.trunk(torch.from_numpy(coords[place])).numpy()
        np.testing.assert_allclose(
            found[place].numpy(), expected(features, values[place], weights[place], 1e-3), rtol=1e-5, atol=1e-7
        )
