"""`scaling`: trainings on one process and on more, and a step with sharded experts as their number grows.

Every process has one thread; one process has the engine `local`, several have `deepspeed`, sharing the experts. Weak
scaling: every process adds as many signals to the batch; its efficiency is t(1) / t(R). Strong scaling: the batch stays
as it is; the speed-up is t(1) / t(R). Beside weak scaling are two trainings that know nothing of each other, each with
the batch of one: what they cost each other is the machine's.
"""

from collections.abc import Sequence
from typing import Any

from nid_dist.benchmarks.sharded import ShardedCase, Size, joined, summary, together
from nid_dist.benchmarks.trainings import MODES, TINY, Training, step_seconds
from nid_dist.evaluation.measuring import peak_bytes
from nid_dist.evaluation.report import Column, Table
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.local_processes import run_local
from nid_dist.parallel.world import JSON

EXPERTS, BATCH = 1024, 128
"""Of the trainings, as of the quickstart: n, and the signals of a process in weak scaling."""

_LARGE = "solve, k = 128"  # as CelebA is trained

_COLUMNS = [
    Column("what"),
    Column("processes"),
    Column("n"),
    Column("signals"),
    Column("step", "ms", ".1f"),
    Column("weak efficiency", "t1/tR", ".2f"),
    Column("speed-up", "t1/tR", ".2f"),
    Column("memory of a rank's step", "MiB", ".0f"),
]


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Measure trainings and steps; `quick`: no trainings on 4 processes.

    The figures `weak_efficiency_2` and `strong_speedup_2` are those of n = 4096, k = 128, the size of CelebA's
    dictionary and of `exchange`; `..._worst` those of the mode and size where they are worst.
    """
    figures, rows = _trainings(quick)
    more_figures, more_rows = _experts(quick)
    return figures | more_figures, Table(_COLUMNS, [*rows, *more_rows])


def _trainings(quick: bool) -> tuple[dict[str, float], list[list[Any]]]:
    batch = 4 if quick else BATCH
    experts = dict.fromkeys(MODES, 32 if quick else EXPERTS)
    modes = {mode: (*overrides, *(TINY if quick else ())) for mode, overrides in MODES.items()}
    if not quick:
        experts[_LARGE] = 4096
        modes[_LARGE] = (*MODES["solve"], "dictionary.experts=4096", "coding.support=128")
    # Two processes share the batch of strong scaling, and have the batch of weak scaling each: one training for both.
    shapes = [(1, batch), (1, 2 * batch), (2, 2 * batch)] + [(4, 2 * batch), (4, 4 * batch)] * (not quick)
    trainings = {}
    for mode, given in modes.items():
        for processes, signals in shapes:
            trainings[f"{mode} {processes} {signals}"] = Training(processes, (*given, f"training.batch={signals}"))
        trainings[f"{mode} independent"] = Training(2, (*given, f"training.batch={batch}"), independent=True)
    few = {name: training for name, training in trainings.items() if training.processes <= 2}
    many = {name: training for name, training in trainings.items() if name not in few}
    steps = 4 if quick else 20
    seconds = step_seconds(few, steps, 1 if quick else 2) | step_seconds(many, steps, 1)
    figures: dict[str, float] = {}
    rows: list[list[Any]] = []
    for mode in modes:
        name = "solve_n4096" if mode == _LARGE else mode
        one = {signals: seconds[f"{mode} 1 {signals}"] for signals in (batch, 2 * batch)}
        for processes, signals in shapes:
            here = seconds[f"{mode} {processes} {signals}"]
            weak = one[batch] / here if signals == processes * batch else None
            strong = one[2 * batch] / here if signals == 2 * batch else None
            rows.append([f"mode {mode}", summary(processes), experts[mode], signals, 1e3 * here, weak, strong, None])
            figures[f"ms_{name}_{processes}_batch{signals}"] = 1e3 * here
            if processes > 1 and weak is not None:
                figures[f"weak_efficiency_{processes}_{name}"] = weak
            if processes > 1 and strong is not None:
                figures[f"strong_speedup_{processes}_{name}"] = strong
        here = seconds[f"{mode} independent"]
        figures[f"independent_efficiency_2_{name}"] = one[batch] / here
        words = f"mode {mode}, two independent trainings"
        rows.append([words, summary(2), experts[mode], batch, 1e3 * here, one[batch] / here, None, None])
    for figure in ("weak_efficiency_2", "strong_speedup_2"):
        figures[f"{figure}_worst"] = min(value for name, value in figures.items() if name.startswith(f"{figure}_"))
        if not quick:
            figures[figure] = figures[f"{figure}_solve_n4096"]
    return figures, rows


def _experts(quick: bool) -> tuple[dict[str, float], list[list[Any]]]:
    sizes = [Size(n, 64, 1024, 64) for n in (1024, 4096, 16384, 65536)]
    if quick:
        sizes = [Size(n, 4, 16, 4, width=16) for n in (32, 64)]
    found: Any = run_local(measure_sizes, 2, sizes, 2 if quick else 9)
    figures: dict[str, float] = {}
    rows: list[list[Any]] = []
    for size, (seconds, memory) in zip(sizes, found[0], strict=True):
        figures |= {f"ms_n{size.experts}": 1e3 * seconds, f"mib_n{size.experts}": memory / 2**20}
        name = f"f and its gradients, k = {size.support}"
        row = [name, summary(2), size.experts, 2 * size.signals, 1e3 * seconds, None, None, memory / 2**20]
        rows.append(row)
    first, last = sizes[0].experts, sizes[-1].experts
    figures[f"time_ratio_n{last}_n{first}"] = found[0][-1][0] / found[0][0][0]
    return figures, rows


def measure_sizes(launch: Launch, sizes: Sequence[Size], repeats: int) -> JSON:
    """Steps with sharded experts, in one of several processes.

    For each size the seconds of a step, and the bytes that it needs on a rank beyond the parameters, with gradients.
    """
    with joined(launch) as world:
        cases = {str(size): ShardedCase(world, size) for size in sizes}
        seconds = together(world, {name: case.step for name, case in cases.items()}, repeats)
        memory = []
        for case in cases.values():
            case.clear()
            memory.append(peak_bytes(case.step, world.device))
            case.clear()
        return [[seconds[name], each] for name, each in zip(cases, memory, strict=True)]
