"""`engines`: what a training step costs under DeepSpeed and fairscale, against plain PyTorch in one process.

Trainings in mode `gate`, in which experts, trunk and gate all learn, one thread per process. Every engine does the same
work, first in one process, which is a group of one for those of many, then in two that share the experts.
"""

from typing import Any

from nid_dist.benchmarks.scaling import BATCH, EXPERTS
from nid_dist.benchmarks.sharded import summary
from nid_dist.benchmarks.trainings import MODES, TINY, Training, step_seconds
from nid_dist.evaluation.report import Column, Table

ENGINES = {
    "local": ("parallel.engine=local",),
    "deepspeed": ("parallel.engine=deepspeed", "parallel.zero_stage=0"),
    "deepspeed_zero1": ("parallel.engine=deepspeed", "parallel.zero_stage=1"),
    "fairscale": ("parallel.engine=fairscale",),
}
_COLUMNS = [
    Column("engine"),
    Column("processes"),
    Column("n"),
    Column("signals"),
    Column("step", "ms", ".1f"),
    Column("against", "local, 1 process", ".3f"),
    Column("against", "deepspeed, 2 processes", ".3f"),
]


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Measure all engines.

    The figures `overhead_deepspeed`, `overhead_deepspeed_zero1`, `overhead_fairscale`: time of a step in one process,
    1.0 being that of `local`; with `_2`: in two, 1.0 being that of `deepspeed`.
    """
    experts, batch = (32, 4) if quick else (EXPERTS, BATCH)
    sizes = TINY if quick else (f"dictionary.experts={experts}",)
    trainings = {}
    for name, engine in ENGINES.items():
        for processes in (1,) if name == "local" else (1, 2):
            given = (*sizes, *MODES["gate"], *engine, f"training.batch={processes * batch}")
            trainings[f"{name} {processes}"] = Training(processes, given)
    seconds = step_seconds(trainings, steps=4 if quick else 25, rounds=1 if quick else 4)
    figures: dict[str, Any] = {}
    rows: list[list[Any]] = []
    for processes, yardstick in ((1, "local"), (2, "deepspeed")):
        for name in ENGINES:
            if f"{name} {processes}" not in seconds:
                continue
            here = seconds[f"{name} {processes}"]
            against = here / seconds[f"{yardstick} {processes}"]
            row = [name, summary(processes), experts, processes * batch, 1e3 * here]
            rows.append([*row, against, None] if processes == 1 else [*row, None, against])
            suffix = "" if processes == 1 else f"_{processes}"
            figures[f"ms_{name}{suffix}"] = 1e3 * here
            if name != yardstick:
                figures[f"overhead_{name}{suffix}"] = against
    return figures, Table(_COLUMNS, rows)
