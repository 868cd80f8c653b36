"""What a run says about itself in words and numbers: tables, and the machine they were made on."""

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Cell = str | float | int | None


@dataclass(frozen=True)
class Column:
    """One column of a table: its head, the unit shown in the head, and how its numbers are written.

    Args:
        name: the head's text.
        unit: the unit of every number below ("dB", "s", "bytes"); empty for none.
        format: a format specification for numbers, as in `format(value, ".2f")`; text is written as it is.
    """

    name: str
    unit: str = ""
    format: str = ""

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

    Args:
        columns: the columns; a plain string stands for a column of that name without unit or format.
        rows: one sequence of cells per row, as long as there are columns.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """

    columns: Sequence[Column | str]
    rows: Sequence[Sequence[Cell]]

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
