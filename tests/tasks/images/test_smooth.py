"""The smooth plate against a dense solution, and inputs that leave it nothing to do."""

import numpy as np
import pytest
import torch

from nid_dist.tasks.images.smooth import smooth


@pytest.mark.parametrize("screening", [1e-3, 0.1])
def test_it_solves_the_dense_equations(screening: float) -> None:
    draws = np.random.default_rng(0)
    image, known = draws.random((7, 6, 2)), draws.random((7, 6)) < 0.5
    rows = np.arange(42).reshape(7, 6)
    laplacian = np.zeros((42, 42))
    pairs = [(rows[:-1], rows[1:]), (rows[:, :-1], rows[:, 1:])]
    for first, second in ((a.ravel(), b.ravel()) for a, b in pairs):
        laplacian[first, second] = laplacian[second, first] = 1
    laplacian -= np.diag(laplacian.sum(1))
    lost = np.flatnonzero(~known)
    system = laplacian @ laplacian + screening * np.eye(42)
    flat = image.reshape(42, 2)
    kept = np.where(known.reshape(42, 1), flat, 0)
    right = (screening * flat - system @ kept)[lost]
    expected = flat.copy()
    expected[lost] = np.linalg.solve(system[np.ix_(lost, lost)], right)
    found = smooth(torch.from_numpy(image), torch.from_numpy(known), screening)
    assert np.allclose(found.image.numpy().reshape(42, 2), expected, atol=1e-3)
    assert float(found.residual) < 1e-3


@pytest.mark.parametrize("known", [torch.ones(5, 4, dtype=torch.bool), torch.eye(5, 4, dtype=torch.bool)])
def test_a_constant_stays_and_nothing_unknown_is_no_error(known: torch.Tensor) -> None:
    found = smooth(torch.full((5, 4, 1), 0.3), known)
    assert torch.allclose(found.image, torch.tensor(0.3)) and float(found.residual) <= 1
