"""`simple`: every promise beside what a person would write in fifteen lines, on data that was not trained on.

A line is ours less the simple thing, in dB (or another unit of which more is better): keys with `minus` in their name
are to be positive. Data come from this repository, or from packages that their managers fetch; what cannot be fetched
here is left out, and named.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from nid_dist.benchmarks.simple.line import Line, Lines
from nid_dist.errors import UserError
from nid_dist.evaluation.report import Column, Table

__all__ = ["Line", "Lines", "earlier_lines", "jobs", "run"]

Found: TypeAlias = tuple[dict[str, Any], Table]

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
    from nid_dist.benchmarks.simple import box, ct, patches, resolution, video

    return {
        "ct": ct.lines,
        **{f"patches_{k}": partial(patches.lines, k=k) for k in patches.SUPPORTS},
        "resolution": resolution.lines,
        "box": box.lines,
        "video": video.lines,
    }


def run(quick: bool = False, only: Sequence[str] = (), before: Sequence[Mapping[str, Any]] = ()) -> Found:
    """Compare jobs, one after the other.

    Args:
        quick: tiny sizes, to see that it works.
        only: names of the jobs to be done; none: all.
        before: lines of an earlier run, kept where their jobs are not done now.
    """
    chosen = {name: lines for name, lines in jobs().items() if not only or name in only}
    rows = [dict(row) for row in before if row["part"] not in chosen]
    left_out: dict[str, str] = {}
    for name, lines in chosen.items():
        try:
            for line in lines(quick):
                minus = line.ours - line.simple
                rows.append({"part": name, **asdict(line), "minus": minus})
                print(f"{line.job}: {line.ours:.2f} - {line.simple:.2f} = {minus:+.2f} {line.unit}", file=sys.stderr)
        except UserError as error:
            left_out[f"left_out_{name}"] = str(error)
            print(f"left out {name}: {error}", file=sys.stderr)
    rows.sort(key=lambda row: list(jobs()).index(row["part"]))
    return {row["key"]: row["minus"] for row in rows} | left_out | {"lines": rows}, Table.of(_COLUMNS, rows)


def earlier_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of jobs that there still are, of an earlier run's figures; none where there is no such file."""
    try:
        rows = json.loads(path.read_text())["figures"]["lines"]
        return [row for row in rows if row["part"] in jobs()]
    except (OSError, ValueError, KeyError, TypeError):
        return []
