"""The dictionary's forward and backward pass on a device, replayed as a graph where it has them, against all n outputs.

C = 1024, k = 256, h = 512, d = 3 on a sine trunk, as `step` has them on a CPU.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from nid_dist.benchmarks.gpu.card import available
from nid_dist.benchmarks.gpu.timing import TimeBox, median_seconds
from nid_dist.benchmarks.step import StepCase
from nid_dist.graphs import Recorder, can_record
from nid_dist.precision import products_in


@dataclass(frozen=True)
class StepSizes:
    """Of the cases."""

    experts: tuple[int, ...] = (4096, 65536, 16384, 262144)  # those first that others are compared with
    signals: tuple[int, ...] = (64, 512, 1024)
    support: int = 256
    width: int = 512
    coordinates: int = 1024


def measure(device: torch.device, sizes: StepSizes, box: TimeBox) -> Iterator[dict[str, float]]:
    """For each n and T, as `NAME_n4096_T64`: `step_ms` as a training takes it, and how often faster than `dense_ms`.

    That ratio is `step_ms_..._over_dense`. `launched_ms` is without a graph; `attained_PRECISION_tflops` are those of
    the last case of the second n, which `nid-plan` reads.
    """
    most, took = max(sizes.signals), 0.0
    for experts in sizes.experts:
        if not box.admits(f"steps with n = {experts}", took):
            continue
        begin = time.monotonic()
        try:
            whole = StepCase(experts, sizes.support, sizes.width, most, sizes.coordinates)
            for signals in sizes.signals:
                case = whole.first(signals)
                yield _times(case, f"n{experts}_T{signals}", box)
            if experts == sizes.experts[min(1, len(sizes.experts) - 1)]:
                yield _attained(case)
        except torch.OutOfMemoryError:
            box.skip(f"steps with n = {experts}", "too little memory")
        took = time.monotonic() - begin


def _times(case: StepCase, name: str, box: TimeBox) -> dict[str, float]:
    found = {f"launched_ms_{name}": 1e3 * median_seconds(case.step, case.device)}
    replayed = _replayed(case, box)
    found[f"step_ms_{name}"] = (
        found[f"launched_ms_{name}"] if replayed is None else 1e3 * median_seconds(replayed, case.device)
    )
    case.clear()
    found[f"dense_ms_{name}"] = 1e3 * median_seconds(case.dense, case.device, repeats=5, warm_up=1, limit=1.0)
    case.clear()
    return found | {f"step_ms_{name}_over_dense": found[f"dense_ms_{name}"] / found[f"step_ms_{name}"]}


def _attained(case: StepCase) -> dict[str, float]:
    found = {}
    for precision in available(case.device):
        with products_in(precision, case.device, remember_casts=False):
            run = _replayed(case) or case.step
            found[f"attained_{precision}_tflops"] = case.flops() / median_seconds(run, case.device) / 1e12
        case.clear()
    return found


def _replayed(case: StepCase, box: TimeBox | None = None) -> Callable[[], object] | None:
    """The step as a graph; None where the device has none, or cannot hold it."""
    if not can_record(case.device):
        return None
    recorder = Recorder(case.device)
    with recorder.stream():
        for _ in range(3):
            case.step()
    try:
        recording = recorder.record(lambda _: {"f": case.step()}, {})
    except RuntimeError as error:
        if box is not None:
            box.skip("a step as a graph", str(error).splitlines()[0])
        return None
    return lambda: recording.replay({})
