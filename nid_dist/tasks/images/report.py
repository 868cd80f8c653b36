"""Fit images one after the other and write what a person wants to see of it: codes, pictures, a table."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from nid_dist.coding.method import Method
from nid_dist.coding.solvers import LastPrepared
from nid_dist.config.schema import Config
from nid_dist.data.reading import EXTENSIONS, read_image
from nid_dist.data.splits import Split
from nid_dist.evaluation.file_report import FileSignals, Named, Report, Row, report_signals
from nid_dist.evaluation.pictures import comparison, save_image
from nid_dist.evaluation.report import Column
from nid_dist.model import Model
from nid_dist.tasks.images.compact import Compactness, compact, write_compact
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.fit import ImageArray, fit_image, require_stride, write_codes
from nid_dist.tasks.images.sources import list_images
from nid_dist.tasks.images.super_resolution import super_resolve
from nid_dist.tasks.images.task import prepared

_COLUMNS = [
    Column("image", key="image"),
    Column("solver", key="solver"),
    Column("PSNR", "dB", ".2f", "psnr_db"),
    Column("SSIM", "", ".4f", "ssim"),
    Column("residual", "times validation", ".2f", "times_expected"),
    Column("non-zeros", "per signal", "", "nonzeros_per_signal"),
    Column("detail", "per image", "", "detail_numbers"),
    Column("code", "bytes/signal", "", "bytes_per_signal"),
    Column("code", "bytes/image", ",.0f", "bytes_per_image"),
    Column("time", "ms/signal", ".3f", "ms_per_signal"),
    Column("time", "ms/image", ".0f", "ms_per_image"),
    Column("rate", "images/s", ".3g", "images_per_second"),
]


def report_images(
    model: Model,
    signals: Iterable[Named],
    methods: Sequence[Method],
    out: Path,
    *,
    stride: int | None = None,
    scale: float | None = None,
    command: str,
    compactness: Compactness | None = None,
    detail: int | None = None,
) -> Report:
    """Fit images and write, per image, codes, reconstructions and error maps; for all, a table.

    Args:
        signals: names, and what reads the pixels.
        out: folder, as for `report_signals`.
        stride: step between patches; None: no overlap.
        scale: also write the image at this multiple of its resolution: above 1, with patches and a prior, the one whose
            means over the given pixels are these; otherwise the last method's f.
        command: to be recorded with the figures.
        compactness: write quantised codes, a file of few bytes for each method, and judge these; None: as they are.
        detail: splines beside the learned experts of a whole image, at most so many.
    """
    atoms = LastPrepared(model.dictionary)

    report = Report(_COLUMNS, "image")

    def fit(name: str, image: ImageArray, folder: Path) -> list[Row]:
        return _report(model, name, image, methods, folder, stride, scale, atoms, report, compactness, detail)

    return report_signals(report, signals, fit, out, command)


def _report(
    model: Model,
    name: str,
    image: ImageArray,
    methods: Sequence[Method],
    folder: Path,
    stride: int | None,
    scale: float | None,
    atoms: LastPrepared,
    report: Report,
    compactness: Compactness | None,
    detail: int | None,
) -> list[Row]:
    fits = fit_image(model, image, methods, stride, atoms, detail=detail)
    found = {} if compactness is None else {label: compact(fit, compactness) for label, fit in fits.items()}
    fits |= {label: each.fit for label, each in found.items()}
    last = methods[-1].label
    larger, resolved = None, last
    if scale is not None and scale > 1 and model.prior is not None and fits[last].tiling.patch is not None:
        noise = next((method.noise for method in methods if method.name == "map"), Method("map").noise)
        larger, resolved = super_resolve(model, image, scale, noise=noise).render(), "map"
    elif scale is not None:
        larger = fits[last].render(scale=scale)
    shown = {label: fit.render() for label, fit in fits.items()}
    folder.mkdir(parents=True, exist_ok=True)
    sizes: dict[str, Row] = {label: {} for label in fits}
    if compactness is None:
        write_codes(folder, fits, image=name)
    for label, each in found.items():
        size = write_compact(folder / f"{label}.nidc", each, image=name)
        sizes[label] = {"bytes_per_image": size, "bytes_per_signal": round(size / each.fit.code.signals, 1)}
    for label, picture in shown.items():
        save_image(folder / f"{label}.png", picture)
    title = f"{name}: {model.dictionary.num_experts} experts, {model.support} per signal"
    comparison(folder / "comparison.png", image, shown, title=title)
    if larger is not None:
        save_image(folder / f"{resolved}-x{scale:g}.png", larger)
    judged = {label: fit.judgement for label, fit in fits.items()}
    report.judged[name] = judged[last]
    return [
        {"image": name, "solver": label, **fit.figures(shown[label]), **judged[label].facts(), **sizes[label]}
        for label, fit in fits.items()
    ]


def _held_out(config: Config, split: Split) -> list[Named]:
    refs = list_images(config.signals_of(ImagesSection))[split]
    return [(ref.name, partial(prepared, ref, config)) for ref in refs]


def _read(path: Path, config: Config) -> ImageArray:
    section = config.signals_of(ImagesSection)
    return read_image(path, section.colour, section.bits)


FILES = FileSignals(
    "image",
    EXTENSIONS,
    _read,
    _held_out,
    lambda stride, config: require_stride(stride, config.signals_of(ImagesSection).patch),
    report_images,
)
