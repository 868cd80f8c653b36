"""The benchmark of a card measures what it says, here on small sizes and the device that there is."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from nid_dist.benchmarks import gpu
from nid_dist.benchmarks.gpu import activity, card, fits, largest, steps, trainings
from nid_dist.benchmarks.gpu.timing import TimeBox, median_seconds
from nid_dist.benchmarks.step import StepCase
from nid_dist.cli.benchmark import main
from nid_dist.config.schema import Config
from nid_dist.tasks.images import sources
from tests.tiny import write_pictures, write_sizes
from tests.tiny_ct import SHIPPED, SMALL

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> gpu.Sizes:
    """Of all sections: less than a second each."""
    folder = tmp_path_factory.mktemp("gpu")
    photos = f"signals.path={write_pictures(folder)}"
    config = write_sizes(folder)
    small = [each for each in SMALL if not each.startswith(("training.steps", "parallel.device"))]
    tiny = {
        "solve": trainings.Training(config, (photos, "coding.phases=[{mode: solve}]", "parallel.device=auto")),
        "ct": trainings.Training(SHIPPED, (*small, "coding.phases=[{mode: distill}]")),
        "video": trainings.Training(
            "video_rpca",
            (
                "signals.path={folder}/clip",
                "signals.short_side=null",
                "signals.video.stop=null",
                "training.coordinates=64",
            ),
        ),
    }
    few = ("signals.limit=2", "dictionary.experts=64", "dictionary.width=16", "coding.support=8")
    return gpu.Sizes(
        card.CardSizes(64, 4096),
        steps.StepSizes((32, 64), (2, 4), 8, 16, 32),
        trainings.TrainingSizes(tiny, 5, 3, 0.1, 2, (12, 48, 64)),
        fits.FitSizes((*few, "dictionary.encoding.features=16", "coding.gate.iterations=2"), 4, 2, 0.1),
        largest.LargestSizes((16, 32), (*few[:1], "dictionary.width=8", "coding.support=8", "training.batch=4"), 2),
    )


@pytest.fixture(autouse=True)
def few_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "EMBEDDED", ("chelsea", "retina", "astronaut"))


def assert_all_measured(figures: dict[str, object]) -> None:
    assert figures["skipped"] == []
    for case in ("n32_T2", "n32_T4", "n64_T2", "n64_T4"):
        ours, dense = figures[f"step_ms_{case}"], figures[f"dense_ms_{case}"]
        assert figures[f"step_ms_{case}_over_dense"] == dense / ours  # type: ignore[operator]
    for name in ("solve", "ct", "video"):
        assert all(f"{name}_{figure}" in figures for figure in ("steps_per_s", "steps_per_s_repeated", "busy", "waits"))
    names = ["gemm_fp32_tflops", "gemm_bf16_tflops", "copy_gb_per_s", "attained_fp32_tflops", "attained_bf16_tflops"]
    names += [f"{name}_patches_per_s" for name in ("gate", "ridge", "omp8", "omp", "fista", "irls8")]
    names += ["largest_step_ms_n16", "largest_step_ms_n32", "largest_gb_n32"]
    assert set(names) <= set(figures) and figures["largest_n"] == 32
    values = [value for name, value in figures.items() if name != "skipped" and "largest_gb" not in name]
    assert all(isinstance(value, float | int) and value >= 0 and math.isfinite(value) for value in values)


def test_every_section(sizes: gpu.Sizes) -> None:
    figures, table = gpu.measured(CPU, sizes, 600.0)
    assert_all_measured(figures)
    assert [row[0] for row in table.rows] == [name for name in figures if name != "skipped"]


def test_what_takes_too_long_is_left_out_and_said(sizes: gpu.Sizes, capsys: pytest.CaptureFixture[str]) -> None:
    figures, _ = gpu.measured(CPU, sizes, 0.0)
    assert {"steps with n = 32", "training solve", "fits by gate"} <= set(figures["skipped"])
    assert capsys.readouterr().err.count("skipped ") == len(figures["skipped"]) == 2 + 2 + 3 + 6 + 1
    box = TimeBox(100.0)
    assert box.part(0.5).admits("x", 40.0) and not box.part(0.5).admits("x", 60.0) and box.skipped == ["x"]


@pytest.mark.parametrize("arguments", [[], ["--quick"]])
def test_a_machine_without_a_gpu_says_so_in_one_line(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gpu", "--json", str(tmp_path / "gpu.json"), "--device", "cpu", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "found the device cpu, expected a GPU" in captured.err
    assert not list(tmp_path.iterdir())


def test_fewer_signals_of_the_same_case() -> None:
    whole = StepCase(32, 4, 8, 6, 10)
    part = whole.first(2)
    torch.testing.assert_close(part.step(), whole.step()[:2])
    assert part.code.values.grad is not None and part.code.values.grad.shape == (2, 4)
    # As counted by hand for all of them, with a third of the signals.
    fixed = 2 * 10 * (3 * 3 * 8 * 8 + 2 * 2 * 8)
    assert part.flops() - fixed == pytest.approx((whole.flops() - fixed) / 3)


def event(name: str, start: float, end: float, *, device: bool = True, annotation: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        name=name,
        device_type=DeviceType.CUDA if device else DeviceType.CPU,
        time_range=SimpleNamespace(start=start, end=end),
        is_user_annotation=annotation,
    )


def test_activity_is_counted_by_call() -> None:
    events = [
        event("cudaLaunchKernel", 0, 1, device=False),
        event("cudaLaunchKernelExC", 0, 1, device=False),
        event("cudaGraphLaunch", 0, 1, device=False),
        event("cudaStreamSynchronize", 0, 1, device=False),
        event("aten::mm", 0, 99, device=False),
        event("gemm", 10, 30),
        event("copy", 20, 40),  # on another stream
        event("gemm", 22, 25),
        event("gemm", 100, 110),
        event("Optimizer.step", 0, 500, annotation=True),
    ]
    found = activity.summed(events, 2)
    assert (found.launches, found.waits) == (1.5, 0.5)
    assert found.busy == pytest.approx(20e-6)  # 30 and 10 microseconds in two calls
    assert activity.summed([], 3) == activity.Activity(0.0, 0.0, 0.0)


def test_one_batch_is_repeated_and_figures_are_read_as_often_as_by_a_log(sizes: gpu.Sizes, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    seen, read = [], []
    monkeypatch.setattr(trainings.Stepper, "_read_figures", lambda self: read.append(self.step))

    class Watched(trainings.Stepper):
        def _read_batches(self):  # type: ignore[no-untyped-def]
            found = super()._read_batches()
            seen.append(found[0].ids.tolist())
            return found

    def configured() -> Config:
        training = sizes.trainings.trainings["solve"]
        return trainings.load_config(training.config, [*training.overrides, *trainings.OFF, "logging.log_every=2"])

    with trainings.open_world(configured(), trainings.Launch()) as world:
        stepper = Watched(configured(), world)
        stepper.initialise()
        stepper.take(3)
        stepper.repeat()
        stepper.take(3)
    assert len({tuple(ids) for ids in seen[:3]}) == 3 and seen[2] == seen[3] == seen[5]
    assert read == [2, 4, 6]


def test_the_median_of_calls() -> None:
    calls = []
    assert median_seconds(lambda: calls.append(1), CPU, repeats=4, warm_up=2) < 0.1
    assert len(calls) == 6
    assert median_seconds(lambda: calls.append(1), CPU, warm_up=0, limit=0.0) < 0.1 and len(calls) == 7


def test_expected_figures_are_of_things_that_are_measured() -> None:
    named = [name for name in gpu.EXPECTED if name.endswith("_steps_per_s")]
    assert {name.removesuffix("_steps_per_s") for name in named} <= set(trainings.TRAININGS)
    assert 2**20 in largest.LargestSizes().experts and json.dumps(gpu.EXPECTED)
