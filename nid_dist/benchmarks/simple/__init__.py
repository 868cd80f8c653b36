"""`simple`: every promise beside what a person would write in fifteen lines, on data that was not trained on.

A line is ours less the simple thing, in dB (or another unit of which more is better): keys with `minus` in their name
are to be positive. Data come from this repository, or from packages that their managers fetch; what cannot be fetched
here is left out, and named.
"""

import sys
from dataclasses import asdict
from typing import Any

from nid_dist.benchmarks.simple.line import Line, Lines
from nid_dist.errors import UserError
from nid_dist.evaluation.report import Column, Table

__all__ = ["Line", "Lines", "jobs", "run"]

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


def jobs() -> dict[str, Lines]:
    """What is compared, by name."""
    from nid_dist.benchmarks.simple import patches, video

    return {"patches": patches.lines, "video": video.lines}


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
