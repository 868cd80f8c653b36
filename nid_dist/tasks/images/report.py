"""Fit images one after the other and write what a person wants to see of it: codes, pictures, a table."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nid_dist.coding.method import Method
from nid_dist.coding.solvers import LastPrepared
from nid_dist.errors import UserError
from nid_dist.evaluation.pictures import comparison, save_image
from nid_dist.evaluation.report import Column, Table, machine
from nid_dist.files import replacing, write_json
from nid_dist.model import Model
from nid_dist.tasks.images.fit import ImageArray, fit_image, write_codes

_COLUMNS = [
    Column("image"),
    Column("solver"),
    Column("PSNR", "dB", ".2f"),
    Column("SSIM", "", ".4f"),
    Column("non-zeros", "per signal"),
    Column("code", "bytes/signal"),
    Column("time", "ms/signal", ".3f"),
]
Row = dict[str, Any]


@dataclass
class Report:
    """What became of some images.

    Args:
        rows: figures of each image and method.
        failed: why an image has none, by its name.
    """

    rows: list[Row] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def table(self) -> Table:
        """One row per image and method, and the means over images where there are several."""
        return Table(_COLUMNS, [list(row.values()) for row in self.rows + self.means])

    @property
    def means(self) -> list[Row]:
        """One row per method."""
        if len({row["image"] for row in self.rows}) < 2:
            return []
        means = []
        for label in dict.fromkeys(row["solver"] for row in self.rows):
            own = [row for row in self.rows if row["solver"] == label]
            figures = {
                key: float(np.mean([row[key] for row in own])) for key in own[0] if key not in ("image", "solver")
            }
            figures["nonzeros_per_signal"] = max(row["nonzeros_per_signal"] for row in own)
            figures["bytes_per_signal"] = own[0]["bytes_per_signal"]
            means.append({"image": "mean", "solver": label, **figures})
        return means


def report_images(
    model: Model,
    images: Iterable[tuple[str, Callable[[], ImageArray]]],
    methods: Sequence[Method],
    out: Path,
    *,
    stride: int | None = None,
    scale: float | None = None,
    command: str,
) -> Report:
    """Fit images and write, per image, codes, reconstructions and error maps; for all, a table.

    An image that cannot be read or fitted is noted, and the next one follows. When interrupted, the table of the images
    so far is still written.

    Args:
        model: frozen.
        images: names, and what reads the pixels.
        methods: how to fit.
        out: folder; files appear complete or not at all.
        stride: step between patches; None: no overlap.
        scale: also write the last method's f at this multiple of the image's resolution.
        command: to be recorded with the figures.

    Returns:
        What became of the images.
    """
    report, taken, prepared = Report(), set[str](), LastPrepared(model.dictionary)
    try:
        for name, read in images:
            folder = out / _folder_name(name, taken)
            try:
                report.rows += _report(model, name, read(), methods, folder, stride, scale, prepared)
            except UserError as error:
                report.failed[name] = str(error) if name in str(error) else f"{name}: {error}"
            except OSError as error:
                report.failed[name] = f"{folder}: {error.strerror or error}"
    finally:
        if report.rows or report.failed:
            _write_table(report, out, command)
    return report


def _report(
    model: Model,
    name: str,
    image: ImageArray,
    methods: Sequence[Method],
    folder: Path,
    stride: int | None,
    scale: float | None,
    prepared: LastPrepared,
) -> list[Row]:
    fits = fit_image(model, image, methods, stride, prepared)
    last = methods[-1].label
    larger = None if scale is None else fits[last].render(scale=scale)
    shown = {label: fit.render() for label, fit in fits.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_codes(folder, fits, image=name)
    for label, picture in shown.items():
        save_image(folder / f"{label}.png", picture)
    title = f"{name}: {model.dictionary.num_experts} experts, {model.support} per signal"
    comparison(folder / "comparison.png", image, shown, title=title)
    if larger is not None:
        save_image(folder / f"{last}-x{scale:g}.png", larger)
    return [{"image": name, "solver": label, **fit.figures(shown[label])} for label, fit in fits.items()]


def _write_table(report: Report, out: Path, command: str) -> None:
    lost = "".join(f"\n- {reason}" for reason in report.failed.values())
    with replacing(out / "table.md") as temporary:
        text = f"`{command}`\n\n{report.table.markdown()}\n" + (f"\nWithout result:\n{lost}\n" if lost else "")
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    results = {"rows": report.rows, "means": report.means, "failed": report.failed}
    write_json(out / "results.json", {"command": command, "machine": machine(), **results})


def _folder_name(name: str, taken: set[str]) -> str:
    """A new folder per image: the image's path without its ending, or with it where two differ only there."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("..", ".", "/")]
    whole = PurePosixPath(*parts)
    names = itertools.chain(
        [str(whole.with_suffix("")), str(whole)], (f"{whole}-{copy}" for copy in itertools.count(2))
    )
    chosen = next(name for name in names if name not in taken)
    taken.add(chosen)
    return chosen
