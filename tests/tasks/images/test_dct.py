"""The transform against the cosine formula, and its best coefficients against every other choice."""

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from nid_dist.tasks.images.dct import OPPONENT, best_k, inverse, transform


def patches(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine_basis(size: int) -> Tensor:
    """Row u: the orthonormal cosine of frequency u."""
    rows = [[math.cos(math.pi * (2 * x + 1) * u / (2 * size)) for x in range(size)] for u in range(size)]
    norms = torch.tensor([math.sqrt((1 if u == 0 else 2) / size) for u in range(size)], dtype=torch.float64)
    return norms[:, None] * torch.tensor(rows, dtype=torch.float64)


def colours(channels: int) -> Tensor:
    return torch.from_numpy(OPPONENT) if channels == 3 else torch.eye(channels, dtype=torch.float64)


def test_the_opponent_basis_is_a_rotation_with_lightness_first() -> None:
    basis = torch.from_numpy(OPPONENT)
    assert torch.allclose(basis @ basis.T, torch.eye(3, dtype=torch.float64), atol=1e-15)
    assert float(torch.linalg.det(basis)) == pytest.approx(1.0)
    assert basis[0].tolist() == pytest.approx([1 / math.sqrt(3)] * 3)


@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (3, 8, 8, 1), (1, 1, 6, 2), (2, 1, 1, 3)])
def test_transform_is_the_cosine_formula(shape: tuple[int, int, int, int]) -> None:
    signals = patches(*shape)
    rows, columns, mix = cosine_basis(shape[1]), cosine_basis(shape[2]), colours(shape[3])
    assert torch.allclose(transform(signals), torch.einsum("uh,vw,ed,thwd->tuve", rows, columns, mix, signals))


@pytest.mark.parametrize("shape", [(2, 16, 16, 3), (3, 7, 9, 1), (2, 4, 4, 4)])
def test_parseval_and_inverse(shape: tuple[int, int, int, int]) -> None:
    signals, others = patches(*shape), patches(*shape, seed=1)
    assert float((transform(signals) * transform(others)).sum()) == pytest.approx(float((signals * others).sum()))
    assert torch.allclose(inverse(transform(signals)), signals)


def test_a_grey_patch_has_no_colour() -> None:
    grey = patches(2, 8, 8, 1).expand(2, 8, 8, 3)
    assert float(transform(grey)[..., 1:].abs().max()) < 1e-14


@pytest.mark.parametrize("free_mean", [True, False])
@pytest.mark.parametrize("k", [4 * 5 * 3, 10_000])
def test_all_coefficients_reproduce(free_mean: bool, k: int) -> None:
    signals = patches(3, 4, 5, 3)
    assert torch.allclose(best_k(signals, k, free_mean=free_mean), signals)


def atoms(height: int, width: int, channels: int) -> Tensor:
    """Every basis function as a row, frequency by frequency, the channels fastest."""
    rows, columns = cosine_basis(height), cosine_basis(width)
    return torch.einsum("uh,vw,ed->uvehwd", rows, columns, colours(channels)).reshape(height * width * channels, -1)


@pytest.mark.parametrize(("free_mean", "channels"), [(True, 3), (False, 3), (True, 1), (False, 1)])
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_best_k_is_the_best_of_all_supports(free_mean: bool, channels: int, k: int) -> None:
    signals = patches(4, 2, 2, channels)
    basis = atoms(2, 2, channels)
    always = list(range(channels)) if free_mean else []
    errors = []
    for support in combinations(set(range(len(basis))) - set(always), k):
        rows = basis[always + list(support)]
        errors.append((signals.flatten(1) - signals.flatten(1) @ rows.T @ rows).square().sum(1))
    found = (best_k(signals, k, free_mean=free_mean) - signals).flatten(1).square().sum(1)
    assert torch.allclose(found, torch.stack(errors).amin(0))


@pytest.mark.parametrize("k", [0, 5])
def test_the_free_mean_is_the_mean_of_each_channel(k: int) -> None:
    signals = patches(3, 6, 4, 3)
    assert torch.allclose(best_k(signals, k).mean((1, 2)), signals.mean((1, 2)))
    assert torch.allclose(best_k(signals, 0), signals.mean((1, 2), keepdim=True).expand_as(signals))


def test_each_patch_stands_alone() -> None:
    signals = patches(5, 4, 4, 3)
    alone = torch.cat([best_k(patch[None], 6) for patch in signals])
    assert torch.allclose(best_k(signals, 6), alone)


def test_type_is_kept_and_no_gradient_flows() -> None:
    signals = patches(2, 4, 4, 3).float().requires_grad_()
    estimate = best_k(signals, 3)
    assert estimate.dtype == torch.float32 and not estimate.requires_grad
    assert best_k(signals[:0], 3).shape == (0, 4, 4, 3)


def test_a_negative_k_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be -1"):
        best_k(patches(1, 4, 4, 1), -1)
