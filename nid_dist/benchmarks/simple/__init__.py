"""`simple`: every promise beside what a person would write in fifteen lines, on data that was not trained on.

A line is ours less the simple thing, in dB (or another unit of which more is better): keys with `minus` in their name
are to be positive. Data come from this repository, or from packages that their managers fetch; what cannot be fetched
here is left out, and named.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from nid_dist.errors import UserError
from nid_dist.evaluation.report import Column, Table

_COLUMNS = [
    Column("job", key="job"),
    Column("ours", key="method"),
    Column("ours", "", ".2f", "ours"),
    Column("the simple thing", key="simple_method"),
    Column("the simple thing", "", ".2f", "simple"),
    Column("unit", key="unit"),
    Column("minus", "", "+.2f", "minus"),
    Column("ours", "s", ".3g", "seconds"),
    Column("the simple thing", "s", ".3g", "simple_seconds"),
]


@dataclass(frozen=True)
class Line:
    """A job as we do it and as the simple thing does."""

    key: str  # of the difference in the figures, with `minus` in it
    job: str
    method: str  # ours
    ours: float
    simple_method: str
    simple: float
    unit: str = "dB"
    seconds: float | None = None  # for one signal, without training
    simple_seconds: float | None = None


Lines = Callable[[bool], Iterable[Line]]
"""The lines of some jobs; quick: of tiny sizes, to see that it works."""


def jobs() -> dict[str, Lines]:
    """What is compared, by name."""
    from nid_dist.benchmarks.simple import patches

    return {"patches": patches.lines}


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Compare all jobs, one after the other."""
    figures: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for name, lines in jobs().items():
        try:
            for line in lines(quick):
                minus = line.ours - line.simple
                figures |= {line.key: minus}
                rows.append({**asdict(line), "minus": minus})
                print(f"{line.job}: {line.ours:.2f} - {line.simple:.2f} = {minus:+.2f} {line.unit}", file=sys.stderr)
        except UserError as error:
            figures[f"left_out_{name}"] = str(error)
            print(f"left out {name}: {error}", file=sys.stderr)
    return {**figures, "lines": rows}, Table.of(_COLUMNS, rows)
