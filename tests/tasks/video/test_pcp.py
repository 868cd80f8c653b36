"""Principal component pursuit recovers what theory says it recovers; the median is the median."""

import numpy as np
import pytest
import torch

from nid_dist.tasks.video.median import temporal_median
from nid_dist.tasks.video.pcp import principal_component_pursuit, shrink_singular_values


def low_rank_plus_sparse(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rank 3, and a twentieth of the entries off by up to 10."""
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(rows, 3, generator=generator) @ torch.randn(3, columns, generator=generator)
    sparse = 10 * (2 * torch.rand(rows, columns, generator=generator) - 1)
    return low, sparse * (torch.rand(rows, columns, generator=generator) < 0.05)


@pytest.mark.parametrize("shape", [(120, 60), (60, 120)])
def test_recovery(shape: tuple[int, int]) -> None:
    """Theorem 1.1 of Candes et al.: both parts, exactly."""
    low, sparse = low_rank_plus_sparse(*shape)
    found = principal_component_pursuit(low + sparse)
    assert found.rank == 3 and found.error <= 1e-7 and found.iterations < 100
    assert (found.low_rank - low).norm() < 1e-5 * low.norm()
    assert (found.sparse - sparse).norm() < 1e-5 * sparse.norm()


def test_nothing_at_all() -> None:
    found = principal_component_pursuit(torch.zeros(6, 4))
    assert found.rank == 0 and not found.low_rank.any() and not found.sparse.any()


def test_singular_values_are_shrunk() -> None:
    generator = torch.Generator().manual_seed(1)
    left, _ = torch.linalg.qr(torch.randn(7, 3, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(5, 3, generator=generator, dtype=torch.float64))
    shrunk, rank = shrink_singular_values(left @ torch.diag(torch.tensor([5.0, 2.0, 0.5]).double()) @ right.t(), 1.0)
    expected = left @ torch.diag(torch.tensor([4.0, 1.0, 0.0]).double()) @ right.t()
    assert rank == 2
    torch.testing.assert_close(shrunk, expected)


def test_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nid_dist.tasks.video.median._PIXELS", 20)  # in several parts
    frames = np.random.default_rng(0).random((5, 3, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(temporal_median(frames), np.sort(frames, axis=0)[2])
