"""Principal components against a full singular value decomposition and against signals with known directions."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from nid_dist.tasks.images import pca as module
from nid_dist.tasks.images.pca import Centre, best_k, fit_pca, keep_largest, truncate


def patches(count: int, seed: int = 0, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(12 * channels, 12 * channels, generator=generator, dtype=torch.float64)
    flat = torch.randn(count, 12 * channels, generator=generator, dtype=torch.float64) @ mixing + 3.0
    return flat.reshape(count, 4, 3, channels)


def squared_error(estimate: Tensor, target: Tensor) -> float:
    return float((estimate - target).double().square().sum())


def test_known_direction() -> None:
    steps = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])[:, None]
    signals = torch.tensor([[1.0, 5.0]]) + steps * torch.tensor([[0.6, 0.8]])
    pca = fit_pca(signals)
    assert pca.mean.tolist() == pytest.approx([1.0, 5.0])
    assert pca.components[0].abs().tolist() == pytest.approx([0.6, 0.8])
    assert torch.allclose(truncate(pca, signals, 1), signals, atol=1e-6)
    assert torch.allclose(truncate(pca, signals, 0), torch.tensor([1.0, 5.0]).expand(5, 2))


@pytest.mark.parametrize("count", [9, 36, 200])
@pytest.mark.parametrize("k", [0, 1, 5, 20])
def test_truncation_leaves_the_tail_of_the_singular_values(count: int, k: int) -> None:
    signals = patches(count)
    centred = signals.flatten(1) - signals.flatten(1).mean(0)
    tail = torch.linalg.svdvals(centred)[k:].square().sum()
    pca = fit_pca(signals)
    assert len(pca.components) == min(count, 36)
    assert squared_error(truncate(pca, signals, k), signals) == pytest.approx(float(tail), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("count", [20, 200])
@pytest.mark.parametrize("centre", ["signals", "patch"])
def test_components_are_orthonormal_by_falling_variance(count: int, centre: Centre) -> None:
    signals = patches(count)
    pca = fit_pca(signals, centre=centre)
    assert torch.allclose(pca.components @ pca.components.T, torch.eye(len(pca.components), dtype=torch.float64))
    values = signals - signals.mean((1, 2), keepdim=True) if centre == "patch" else signals
    spread = ((values.flatten(1) - pca.mean) @ pca.components.T).square().sum(0)
    assert bool((spread[:-1] >= spread[1:] - 1e-9 * spread[0]).all())


@pytest.mark.parametrize("centre", ["signals", "patch"])
@pytest.mark.parametrize("reconstruct", [truncate, best_k])
@pytest.mark.parametrize("k", [36, 1000])
def test_all_coefficients_reproduce_new_signals(centre: Centre, reconstruct, k: int) -> None:
    pca = fit_pca(patches(100), centre=centre)
    unseen = patches(7, seed=1)
    assert torch.allclose(reconstruct(pca, unseen, k), unseen)


def test_patch_centring_codes_the_channel_means_apart() -> None:
    signals, unseen = patches(100), patches(7, seed=1)
    pca = fit_pca(signals, centre="patch")
    shift = torch.tensor([10.0, -3.0, 0.5], dtype=torch.float64)
    for k in (0, 3):
        estimate = truncate(pca, unseen, k)
        assert torch.allclose(estimate.mean((1, 2)), unseen.mean((1, 2)))
        assert torch.allclose(truncate(pca, unseen + shift, k), estimate + shift)
    within = (signals - signals.mean((1, 2), keepdim=True)).flatten(1)
    tail = torch.linalg.svdvals(within - within.mean(0))[4:].square().sum()
    assert squared_error(truncate(pca, signals, 4), signals) == pytest.approx(float(tail), rel=1e-8)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_best_k_is_the_best_of_all_supports(k: int) -> None:
    signals = torch.randn(30, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pca = fit_pca(signals)
    coefficients = (signals - pca.mean) @ pca.components.T
    errors = []
    for support in combinations(range(5), k):
        rows = list(support)
        estimate = pca.mean + coefficients[:, rows] @ pca.components[rows]
        errors.append((estimate - signals).square().sum(1))
    found = (best_k(pca, signals, k) - signals).square().sum(1)
    assert torch.allclose(found, torch.stack(errors).amin(0))


@pytest.mark.parametrize("centre", ["signals", "patch"])
def test_chunks_change_nothing(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    signals = patches(101)
    whole = fit_pca(signals, centre=centre)
    estimate = best_k(whole, signals, 4)
    monkeypatch.setattr(module, "CHUNK_VALUES", 36 * 7)
    chunked = fit_pca(signals, centre=centre)
    assert torch.allclose(chunked.mean, whole.mean)
    assert torch.allclose(best_k(chunked, signals, 4), estimate)


def test_a_large_offset_does_not_drown_float32_signals() -> None:
    steps = torch.linspace(-1, 1, 50)[:, None]
    signals = 1000.0 + steps * torch.tensor([[0.6, 0.0, 0.8]])
    assert fit_pca(signals).components[0].abs().tolist() == pytest.approx([0.6, 0.0, 0.8], abs=1e-3)


def test_shape_and_type_are_kept() -> None:
    signals = patches(50, channels=1).float()
    pca = fit_pca(signals)
    for estimate in (truncate(pca, signals, 3), best_k(pca, signals, 3), best_k(pca, signals[:0], 3)):
        assert estimate.dtype == torch.float32
        assert estimate.shape[1:] == signals.shape[1:]


def test_keep_largest_by_magnitude() -> None:
    rows = torch.tensor([[1.0, -3.0, 2.0], [0.0, 0.5, -0.1]])
    assert keep_largest(rows, 1).tolist() == [[0.0, -3.0, 0.0], [0.0, 0.5, 0.0]]
    assert keep_largest(rows, 9).tolist() == rows.tolist()
    assert keep_largest(rows, 0).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("call", [truncate, best_k])
def test_what_cannot_be_meant_is_refused(call) -> None:
    pca = fit_pca(patches(40))
    with pytest.raises(ValueError, match="cannot be -1"):
        call(pca, patches(2), -1)
    with pytest.raises(ValueError, match="12 values, components of 36"):
        call(pca, patches(2, channels=1), 3)
    with pytest.raises(ValueError, match="channel axis"):
        fit_pca(torch.zeros(4, 3), centre="patch")
    with pytest.raises(ValueError, match="at least one signal"):
        fit_pca(torch.zeros(0, 3))
