"""Signals of files, fitted one after the other: what a task says of them, a folder for each, and a table of all."""

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeAlias, runtime_checkable

from nid_dist.coding.judgement import Judgement
from nid_dist.coding.method import Method
from nid_dist.config.schema import Config
from nid_dist.data.splits import Split
from nid_dist.errors import UserError
from nid_dist.evaluation.report import Column, Table, means, write_results
from nid_dist.files import NOT_TRIED, Unwritable, new_folder
from nid_dist.model import Model

Row = dict[str, Any]
Named: TypeAlias = tuple[str, Callable[[], Any]]
"""A signal's name, and what reads it."""


@dataclass
class Report:
    """What became of some signals."""

    columns: Sequence[Column]  # of the table
    noun: str  # what a signal is, and the key of its name in a row
    rows: list[Row] = field(default_factory=list)  # figures of each signal and method
    failed: dict[str, str] = field(default_factory=dict)  # why a signal has none, by its name
    judged: dict[str, Judgement] = field(default_factory=dict)  # whether to trust the last method's fit, by its name

    @property
    def table(self) -> Table:
        """One row per signal and method, and the means over signals where there are several."""
        return Table.of(self.columns, self.rows + self.means)

    @property
    def means(self) -> list[Row]:
        """One row per method."""
        if len({row[self.noun] for row in self.rows}) < 2:
            return []
        found = means(self.rows, ["solver"])
        for mean in found:
            own = [row for row in self.rows if row["solver"] == mean["solver"]]
            mean[self.noun] = "mean"
            if len({row["bytes_per_signal"] for row in own}) == 1:
                mean["bytes_per_signal"] = own[0]["bytes_per_signal"]  # a whole number
            else:
                mean["bytes_per_signal"] = round(mean["bytes_per_signal"], 1)
            mean["nonzeros_per_signal"] = max(row["nonzeros_per_signal"] for row in own)
        return found


@runtime_checkable
class WriteReport(Protocol):
    """Fits signals and writes what there is to see of each; `scale`: also f at this multiple of the resolution."""

    def __call__(
        self,
        model: Model,
        signals: Iterable[Named],
        methods: Sequence[Method],
        out: Path,
        *,
        stride: int | None = None,
        scale: float | None = None,
        command: str,
    ) -> Report:
        """What became of them."""
        ...


@dataclass(frozen=True)
class FileSignals:
    """What a task says of files that hold its signals: `FILES` in `nid_dist/tasks/NAME/report.py`."""

    noun: str
    endings: Collection[str]  # in lower case
    read: Callable[[Path, Config], Any]  # a file, as the dictionary takes it
    held_out: Callable[[Config, Split], Sequence[Named]]  # the signals of a split
    # refuses a step between parts of a signal that the dictionary does not allow
    check_stride: Callable[[int | None, Config], None]
    report: WriteReport


def report_signals(
    report: Report, signals: Iterable[Named], fit: Callable[[str, Any, Path], list[Row]], out: Path, command: str
) -> Report:
    """Fit signals one by one, then write `table.md` and `results.json`, and return the report, now with rows.

    A signal that cannot be read or fitted is noted, and the next one follows; but where there is no room for one, none
    is tried after it. When interrupted, the table of the signals so far is still written.

    Args:
        fit: of a name, a signal and a folder: fits it, writes into the folder, and returns a row for each method.
        out: folder; files, and what belongs to a signal, appear complete or not at all.
        command: to be recorded with the figures.

    Raises:
        UserError: the table cannot be written; it names the signals without result.
    """
    taken, full = set[str](), False
    try:
        for name, read in signals:
            folder = out / _folder_name(name, taken)
            if full:
                report.failed[name] = NOT_TRIED
                continue
            try:
                values = read()
                with nullcontext(folder) if folder.exists() else new_folder(folder) as place:
                    report.rows += fit(name, values, place)
            except UserError as error:
                full = isinstance(error, Unwritable) and error.no_room
                report.failed[name] = str(error) if name in str(error) else f"{name}: {error}"
            except OSError as error:
                report.failed[name] = f"{folder}: {error.strerror or error}"
    finally:
        if report.rows or report.failed:
            facts = {"rows": report.rows, "means": report.means}
            try:
                write_results(out / "results.json", command, facts, report.table, failed=report.failed)
            except UserError as error:
                if report.failed:
                    first, *others = report.failed
                    more = f" and {len(others)} more" if others else ""
                    error.replace("found that", f"found no result of {first}{more}, and that")
                raise
    return report


def _folder_name(name: str, taken: set[str]) -> str:
    """A new folder per signal: its path without its ending, or with it where two differ only there."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("..", ".", "/")]
    whole = PurePosixPath(*parts)
    names = itertools.chain(
        [str(whole.with_suffix("")), str(whole)], (f"{whole}-{copy}" for copy in itertools.count(2))
    )
    chosen = next(name for name in names if name not in taken)
    taken.add(chosen)
    return chosen
