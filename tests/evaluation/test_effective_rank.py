"""The effective rank against matrices whose singular values are known, and against a full decomposition."""

import math

import pytest
import torch

from nid_dist.evaluation import effective_rank as module
from nid_dist.evaluation.effective_rank import effective_rank


def with_singular_values(values: list[float], n: int, p: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(n, len(values), generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(p, len(values), generator=generator, dtype=torch.float64))
    return left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right.T


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], 1.0),
        ([2.0, 2.0, 2.0, 2.0], 4.0),
        ([1.0, 0.0, 0.0], 1.0),
        # Shares 1/2, 1/4, 1/4: entropy 1/2 ln 2 + 1/2 ln 4 = 1.5 ln 2.
        ([2.0, 1.0, 1.0], 2.0**1.5),
        # Shares 3/4, 1/4: entropy ln 4 - 3/4 ln 3.
        ([3.0, 1.0], 4.0 / 3.0**0.75),
    ],
)
@pytest.mark.parametrize(("n", "p"), [(5, 9), (9, 5), (6, 6)])
def test_known_singular_values(values: list[float], expected: float, n: int, p: int) -> None:
    assert effective_rank(with_singular_values(values, n, p)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_scale_does_not_matter_in_float32(scale: float) -> None:
    atoms = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]) * scale
    assert effective_rank(atoms) == pytest.approx(4.0 / 3.0**0.75, rel=1e-6)


def test_agrees_with_a_full_decomposition() -> None:
    atoms = torch.randn(40, 17, generator=torch.Generator().manual_seed(1))
    shares = torch.linalg.svdvals(atoms.double())
    shares = shares / shares.sum()
    assert effective_rank(atoms) == pytest.approx(math.exp(-(shares * shares.log()).sum()), rel=1e-9)


@pytest.mark.parametrize("shape", [(11, 4), (4, 11)])
def test_chunks_change_nothing(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
    whole = effective_rank(atoms)
    monkeypatch.setattr(module, "CHUNK", 3)
    assert effective_rank(atoms) == pytest.approx(whole, rel=1e-12)


def test_collapsed_atoms_have_rank_one() -> None:
    atoms = torch.linspace(0.5, 2.0, 300)[:, None] * torch.linspace(-1, 1, 64)[None]
    assert effective_rank(atoms) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (4, 0)])
def test_nothing_has_rank_zero(shape: tuple[int, int]) -> None:
    assert effective_rank(torch.zeros(shape)) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    atoms = torch.ones(3, 3)
    atoms[1, 1] = bad
    assert math.isnan(effective_rank(atoms))


def test_parameters_are_accepted_and_left_alone() -> None:
    atoms = torch.eye(3, requires_grad=True)
    assert effective_rank(atoms) == pytest.approx(3.0)
    assert atoms.grad is None
