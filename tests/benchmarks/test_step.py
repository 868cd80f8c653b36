"""The step benchmark compares equal things."""

import pytest
import torch

from nid_dist.benchmarks import step
from nid_dist.benchmarks.step import Gemm, StepCase, run


@pytest.mark.parametrize("size", [(64, 8, 16), (300, 20, 24)])
def test_both_formulations_give_the_same_values_and_gradients(size: tuple[int, int, int]) -> None:
    case = StepCase(*size)
    gradients = []
    for formulation in (case.step, case.dense):
        values = formulation()
        parameters = [*case.dictionary.parameters(), case.code.values, case.code.bias]
        gradients.append([values, *(parameter.grad.clone() for parameter in parameters)])
    for one, other in zip(*gradients, strict=True):
        assert float((one - other).abs().max()) <= 2e-4 * float(other.abs().max())


def test_codes_have_k_different_experts() -> None:
    case = StepCase(64, 8, 16)
    assert case.code.indices is not None and case.code.indices.shape == (64, 8)
    assert all(len(set(row)) == 8 for row in case.code.indices.tolist())


def test_flops_by_hand() -> None:
    # h = 16, k = 8, T = 64, C = 1024, d = 3: trunk 2 -> 16 -> 16 -> 16 -> 16, forward and both gradients but the first
    # layer's input; merged heads; the weighted sums of rows of 3 * 17 numbers.
    trunk = 1024 * (3 * 3 * 16 * 16 + 2 * 2 * 16)
    heads, merge = 1024 * 3 * 64 * 3 * 16, 3 * 64 * 8 * 51
    assert StepCase(64, 8, 16).flops() == 2 * (trunk + heads + merge)


def test_quick_run_has_a_figure_for_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "Gemm", lambda: Gemm(64))
    figures, table = run(quick=True)
    assert len(table.rows) == 2
    for n in (64, 128):
        assert figures[f"speedup_n{n}_k8_h16"] > 0 and figures[f"relative_error_n{n}_k8_h16"] < 1e-4
        assert f"memory_ratio_n{n}_k8_h16" in figures and figures[f"gemm_fraction_n{n}_k8_h16"] > 0


def test_the_named_figures_compare_the_named_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        step, "alternate", lambda variants, repeats, device: dict.fromkeys(variants, 2.0) | {"16384": 3.0}
    )
    monkeypatch.setattr(step, "StepCase", Fake)
    figures = step._side_by_side(Gemm(100))
    assert figures == {
        "gemm_gflops": pytest.approx(2 * 100**3 / 2 / 1e9),
        "time_ratio_n16384_n1024": 1.5,
        "gemm_fraction_n4096": pytest.approx(4096 * 256 * 512 / (2 * 100**3)),
    }


class Fake:
    """A size without its tensors."""

    def __init__(self, experts: int, support: int, width: int) -> None:
        self.operations = float(experts * support * width)

    def step(self) -> torch.Tensor:
        raise AssertionError("timed by the fake")

    def flops(self) -> float:
        return self.operations


def test_the_yardstick_counts_its_operations() -> None:
    gemm = Gemm(3)
    assert gemm.flops == 2 * 27 and torch.equal(gemm.run(), gemm.left @ gemm.right)
