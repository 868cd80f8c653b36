"""`faults`: what happens to trainings on real machines, done to real trainings on purpose, and what is lost by it.

After each fault the training must go on from the last complete checkpoint, and every loss that it logs from there on
must be that of a training to which nothing happened.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from nid_dist.benchmarks.faults import disks, kinds, launched
from nid_dist.benchmarks.faults.course import Course, Record, undisturbed, write_inputs
from nid_dist.benchmarks.faults.jobs import BIN
from nid_dist.benchmarks.faults.kinds import Kind
from nid_dist.evaluation.report import Column, Table
from nid_dist.progress import phase

_DISK = 8  # MB
_REPEATS = 3  # of measuring imports


def run(quick: bool) -> tuple[dict[str, Any], Table]:
    """The figures and the table."""
    # Forked processes have imported everything; others take so long for it, which is part of their recovery.
    imports = {size: 0.0 if quick else _import_seconds(size) for size in (2, 4)}
    records: list[Record] = []
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        config = write_inputs(folder / "inputs")
        make = partial(Course, config=config, expected=undisturbed(config))
        plan = list(_plan(folder, make, imports, opened, quick))
        with phase("faults", sum(count for _, own in plan for _, count in own)) as shown:
            for course, own in plan:
                for kind, count in own:
                    for _ in range(count):
                        records.append(course.meet(kind.name, kind.happen))
                        shown.advance()
                course.close()
    return _figures(records, imports), _table(records)


def _plan(
    folder: Path, make: Any, imports: dict[int, float], opened: ExitStack, quick: bool
) -> Iterator[tuple[Course, Sequence[tuple[Kind, int]]]]:
    """Courses, and how many faults of which kinds happen to each."""
    for size in (2,) if quick else (2, 4):
        counts = [(kind, kind.quick if quick else kind.two if size == 2 else kind.four) for kind in kinds.KINDS]
        yield make(folder / f"of {size}", size=size, imports=imports[size]), counts
    mounts = disks.can_mount(folder)
    for number, kind in enumerate(kinds.DISKS if mounts else kinds.SIMULATED_DISKS):
        prepare = partial(_own_disk, opened) if mounts else bool
        course = make(folder / f"disk {number}", size=2, imports=imports[2], prepare=prepare)
        yield course, [(kind, kind.quick if quick else kind.two)]
    for launcher in launched.LAUNCHERS[: 1 if quick else None]:
        if (BIN / launcher).exists():
            course = make(folder / launcher, size=2, start=launched.starting(launcher))
            yield course, [(Kind(f"launcher killed ({launcher})", kinds.kill_launcher, 3), 1 if quick else 3)]


def _own_disk(opened: ExitStack, run: Path) -> None:
    opened.enter_context(disks.own_disk(run, _DISK))


def _import_seconds(processes: int) -> float:
    """The median of the seconds that so many processes take, at the same time, to import what a training does."""
    seconds = []
    for _ in range(_REPEATS):
        begin = time.monotonic()
        command = [sys.executable, "-m", f"{__name__}.preloaded"]
        started = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(processes)]
        if any([process.wait() for process in started]):
            raise RuntimeError("what a training imports cannot be imported")
        seconds.append(time.monotonic() - begin)
    return statistics.median(seconds)


def _figures(records: Sequence[Record], imports: dict[int, float]) -> dict[str, Any]:
    recoveries = [record.recovery_seconds for record in records if record.recovery_seconds is not None]
    return {
        "faults": len(records),
        "survived": sum(record.survived for record in records),
        "survived_share": sum(record.survived for record in records) / len(records),
        "steps_lost": sum(record.steps_lost for record in records),
        "used_damaged": sum(record.used_damaged for record in records),
        "losses_equal_share": sum(record.losses_equal for record in records) / len(records),
        "recovery_seconds": statistics.median(recoveries) if recoveries else None,
        "recovery_seconds_most": max(recoveries, default=None),
        **{f"import_seconds_{size}_processes": seconds for size, seconds in imports.items()},
        "not_survived": [f"{record.kind}: {record.note}" for record in records if not record.survived],
    }


def _table(records: Sequence[Record]) -> Table:
    """A line for each kind; what imports take (`import_seconds_...`) is part of the time of forked processes."""
    rows = []
    for kind in dict.fromkeys(record.kind for record in records):
        own = [record for record in records if record.kind == kind]
        recoveries = [record.recovery_seconds for record in own if record.recovery_seconds is not None]
        rows.append(
            (
                kind,
                "/".join(str(size) for size in sorted({record.processes for record in own})),
                len(own),
                sum(record.survived for record in own),
                sum(record.steps_lost for record in own),
                sum(record.used_damaged for record in own),
                sum(record.losses_equal for record in own),
                statistics.median(recoveries) if recoveries else None,
                max(recoveries, default=None),
            )
        )
    counted = ("faults", "survived", "steps of complete checkpoints lost", "damaged used", "losses equal (1e-4)")
    heads = [Column("fault"), Column("processes"), *map(Column, counted)]
    return Table([*heads, Column("fault to next step, median", "s", ".1f"), Column("most", "s", ".1f")], rows)
