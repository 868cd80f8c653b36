"""What a run says about itself in words and numbers: tables, and the machine they were made on."""

import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nid_dist.files import replacing, write_json

Cell = str | float | int | None
Row = Mapping[str, Any]
"""Figures by name."""


@dataclass(frozen=True)
class Column:
    """One column of a table: its head, and how what stands below is found and written."""

    name: str
    unit: str = ""  # of every number below ("dB", "s", "bytes"), shown in the head; empty for none
    format: str = ""  # of numbers, as in `format(value, ".2f")`; text is written as it is
    key: str = ""  # of the figure, in rows that are dictionaries
    scale: float = 1.0  # what the figure is multiplied with

    @property
    def head(self) -> str:
        """The head with its unit, "PSNR (dB)"."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def write(self, cell: Cell) -> str:
        """The cell as text; "–" where there is no value (None or not a number)."""
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return "–"
        return cell if isinstance(cell, str) else format(cell, self.format)


@dataclass(frozen=True)
class Table:
    """A small table of results.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """

    columns: Sequence[Column | str]  # a plain string stands for a column of that name without unit or format
    rows: Sequence[Sequence[Cell]]

    @classmethod
    def of(cls, columns: Sequence[Column], rows: Iterable[Row]) -> "Table":
        """A table of rows of figures by name; what a row lacks is left open."""

        def cell(row: Row, column: Column) -> Cell:
            value: Cell = row.get(column.key)
            return value * column.scale if column.scale != 1 and isinstance(value, float | int) else value

        return cls(columns, [[cell(row, column) for column in columns] for row in rows])

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells, the table has {len(self.columns)} columns")

    def markdown(self) -> str:
        """The table in Markdown, numbers to the right, readable as plain text too; ends without a line break."""
        heads, body = self._written()
        heads, body = [_escape(head) for head in heads], [[_escape(cell) for cell in row] for row in body]
        widths = [max(3, width) for width in _widths(heads, body)]
        numeric = self._numeric()
        rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True)]
        lines = [_align(heads, widths, numeric), rule, *(_align(row, widths, numeric) for row in body)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def text(self) -> str:
        """The table in fixed-width text with a rule under the heads; ends without a line break."""
        heads, body = self._written()
        widths, numeric = _widths(heads, body), self._numeric()
        lines = [_align(heads, widths, numeric), ["-" * width for width in widths]]
        lines += [_align(row, widths, numeric) for row in body]
        return "\n".join("  ".join(line).rstrip() for line in lines)

    def _written(self) -> tuple[list[str], list[list[str]]]:
        columns = [column if isinstance(column, Column) else Column(column) for column in self.columns]
        body = [[column.write(cell) for column, cell in zip(columns, row, strict=True)] for row in self.rows]
        return [column.head for column in columns], body

    def _numeric(self) -> list[bool]:
        columns = [[row[i] for row in self.rows] for i in range(len(self.columns))]
        return [bool(cells) and not any(isinstance(cell, str) for cell in cells) for cells in columns]


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _widths(heads: list[str], body: list[list[str]]) -> list[int]:
    return [max(len(cell) for cell in cells) for cells in zip(heads, *body, strict=True)]


def _align(cells: list[str], widths: list[int], right: list[bool]) -> list[str]:
    return [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]


def means(rows: Iterable[Row], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Means of all numbers, over the rows that agree in some keys.

    Returns:
        A row for each combination, in the order of appearance: the keys, `count`, and the mean of each figure over the
        rows that have one (None where none has). What is neither a number nor None has no mean and is left out.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    found = []
    for case, own in groups.items():
        mean = {**dict(zip(keys, case, strict=True)), "count": len(own)}
        for key in dict.fromkeys(key for row in own for key in row if key not in mean):
            values = [row[key] for row in own if row.get(key) is not None]
            if all(isinstance(value, float | int) for value in values):
                mean[key] = float(np.mean(values)) if values else None
        found.append(mean)
    return found


def pivot(rows: Iterable[Row], index: Sequence[str], key: str, *, unit: str = "", form: str = ".2f") -> Table:
    """Means of one figure: a line for each combination of the index, a column for each method that has it."""
    own = means(rows, [*index, "method"])
    lines: dict[tuple[Any, ...], dict[str, Cell]] = {}
    for mean in own:
        lines.setdefault(tuple(mean[name] for name in index), {})[mean["method"]] = mean.get(key)
    shown = dict.fromkeys(mean["method"] for mean in own if mean.get(key) is not None)
    methods = [Column(method, unit, form) for method in shown]
    cells = [[*case, *(line.get(method.name) for method in methods)] for case, line in lines.items()]
    return Table([*map(Column, index), *methods], cells)


def write_results(
    path: Path,
    command: str,
    facts: Mapping[str, Any],
    table: Table | None = None,
    *,
    tables: Mapping[str, Table] | None = None,
    failed: Mapping[str, str] | None = None,
    title: str = "",
    beside: str = "table.md",
) -> None:
    """Write what was found: JSON for programs, Markdown beside it for people, each complete or not at all.

    Args:
        facts: what the JSON says besides the command, the machine, and what failed.
        table: without one there is no Markdown.
        tables: further ones, by heading.
        failed: why an input has no result, by its name; None: there are no inputs that could fail.
        beside: name of the Markdown's file.

    Raises:
        UserError: they cannot be written.
    """
    made_on = machine()
    if table is not None:
        parts = [f"# {title}"] * bool(title) + [f"`{command}`", ", ".join(f"{key} {made_on[key]}" for key in made_on)]
        parts.append(table.markdown())
        parts += [f"## {heading}\n\n{other.markdown()}" for heading, other in (tables or {}).items()]
        if failed:
            parts.append("Without result:\n\n" + "\n".join(f"- {reason}" for reason in failed.values()))
        with replacing(path.with_name(beside)) as temporary:
            # A file name that is not UTF-8 arrives as lone surrogates.
            temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8", errors="backslashreplace")
    write_json(path, {"command": command, "machine": made_on, **facts} | ({} if failed is None else {"failed": failed}))


def machine() -> dict[str, Any]:
    """What a timing depends on, without the host's name or any path.

    Returns:
        `cpu` (model), `cores` (that this process may use), `memory_gib` (None where the system does not say),
        `accelerator` (model, or None), `os`, `python`, `torch` (versions) and `threads` (of torch).
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": _cpu_model(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "os": _system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"{platform.system()} {platform.release()}".strip()
