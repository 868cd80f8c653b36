"""CT from few views: the dictionary, classical reconstruction and networks on the same scans.

Held-out phantoms are averaged; the standard phantom and real slices, which are unlike anything trained on, are shown by
themselves.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from pydantic import Field
from tqdm import tqdm

from nid_dist.baselines.config import load_baseline
from nid_dist.baselines.inr import Baseline
from nid_dist.comparison.base import Comparison, Request, Results, Trained
from nid_dist.comparison.dictionaries import trained
from nid_dist.config import Config
from nid_dist.config.section import PositiveFloat, PositiveInt
from nid_dist.data.files import named_files
from nid_dist.data.reading import EXTENSIONS, read_image
from nid_dist.errors import UserError
from nid_dist.evaluation.grids import picture_grid
from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.evaluation.pictures import curve
from nid_dist.evaluation.report import Column, Table
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.model import Model
from nid_dist.tasks.ct.methods import classical_ways, dictionary_ways, network_way
from nid_dist.tasks.ct.phantoms import STANDARD
from nid_dist.tasks.ct.scans import scan, scan_geometry, within_disc
from nid_dist.tasks.ct.slices import named_slice
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.sources import ImageRef, list_images
from nid_dist.tasks.images.task import prepared

HELD_OUT = "held-out phantoms"


class CTComparison(Comparison):
    """Reconstruction from few views."""

    task: Literal["ct"] = "ct"
    run_dir: str = "runs/compare_ct"
    dictionary: Trained
    views: list[PositiveInt] = Field([4, 8, 16, 32, 64, 128], min_length=1, description="numbers of views")
    photons: list[PositiveFloat | None] = Field([None, 1e4], min_length=1, description="doses; null: no noise")
    phantoms: PositiveInt = Field(8, description="of the dictionary's test split")
    tuned_on: PositiveInt = Field(3, description="of its validation split, to set each method's one hyperparameter")
    slices: list[str] = Field([], description="photographs of scikit-image, or slices among pydicom's samples (.dcm)")
    baselines: list[str] = Field([], description="configurations of networks, relative to this file")
    networks_on: PositiveInt = Field(1, description="phantoms that a network is fitted to, each on its own")
    seconds: PositiveFloat = Field(20.0, description="that a network may fit a scan")
    shown: PositiveInt = Field(8, description="views in the picture grid")


@dataclass(frozen=True)
class _Subject:
    """A slice to be scanned: the images are compared with, the methods see scans alone."""

    ref: ImageRef
    config: Config
    group: str

    def whole(self) -> Float[np.ndarray, "S S"]:
        image: np.ndarray = prepared(self.ref, self.config)[..., 0]
        return image

    def sinogram(self, geometry: Geometry, dose: Dose, seed: int) -> Float[np.ndarray, "M"]:
        clean = scan(self.ref, self.config.signals_of(ImagesSection), geometry)
        return dose.measure(clean, np.random.default_rng([seed, geometry.views]))


def compare_ct(config: CTComparison, request: Request) -> Results:
    """Make the tables, the plots and the picture grids.

    Args:
        config: the comparison.
        request: whose slices, and where pictures go.

    Returns:
        The results.

    Raises:
        UserError: when something cannot be read or trained, or scikit-image has no word for the geometry.
    """
    model, made = trained(config.dictionary, request, config.run_dir)
    if made.tomography is None:
        raise UserError(
            f"the dictionary {config.dictionary.name}",
            found="no section tomography",
            expected="one that says how slices are scanned",
            hint="add it to its configuration, as in configs/ct_shepp_logan.yaml",
        )
    subjects, failed = _subjects(config, request, made)
    kept = [_Subject(ref, made, "val") for ref in list_images(made.signals_of(ImagesSection))["val"][: config.tuned_on]]
    rows: list[dict[str, Any]] = []
    pictures: dict[tuple[str, int, str, str], Float[np.ndarray, "S S"]] = {}
    doses = [Dose(photons, made.tomography.attenuation, made.tomography.electronic) for photons in config.photons]
    settings = [(views, dose) for dose in doses for views in config.views]
    for views, dose in tqdm(settings, unit="setting", disable=not sys.stderr.isatty()):
        geometry = scan_geometry(made.tomography, model.grid_shape[0], views)
        for row, picture in _at(config, request, model, geometry, dose, subjects, kept):
            rows.append(row)
            pictures[dose.label, views, row["signal"], row["method"]] = picture
    truths = {subject.ref.name: subject.whole() for subject in subjects}
    return Results(
        _table(rows, "psnr_db", ".2f"),
        rows,
        {"means": means(rows)},
        _draw(config, rows, truths, pictures, request.out),
        _further(rows),
        failed,
    )


def _at(
    config: CTComparison,
    request: Request,
    model: Model,
    geometry: Geometry,
    dose: Dose,
    subjects: Sequence[_Subject],
    kept: Sequence[_Subject],
) -> list[tuple[dict[str, Any], Float[np.ndarray, "S S"]]]:
    """Every method on every slice, at one number of views and dose."""
    side = model.grid_shape[0]
    ways, once = dictionary_ways(model, geometry, dose)
    ways += classical_ways(geometry, side)
    networks = [
        network_way(Baseline(load_baseline(path)), _network_name(path), geometry, side, config.seconds)
        for path in map(request.beside, config.baselines)
    ]
    scans = [subject.sinogram(geometry, dose, 10_000 + place) for place, subject in enumerate(kept)]
    wholes = [subject.whole() for subject in kept]
    hyperparameters = {way.name: way.tune(scans, wholes) for way in ways}
    found = []
    for place, subject in enumerate(subjects):
        whole, sinogram = subject.whole(), subject.sinogram(geometry, dose, place)
        fitted = networks if subject.group == HELD_OUT and place < config.networks_on else []
        for way in [*ways, *fitted]:
            picture, seconds = way.timed(sinogram, hyperparameters.get(way.name, way.hyperparameters[0]))
            facts = {
                "group": subject.group,
                "signal": subject.ref.name,
                "views": geometry.views,
                "dose": dose.label,
                "method": way.name,
                "psnr_db": psnr(picture, whole),
                "ssim": ssim(picture[..., None], whole[..., None]),
                "seconds": seconds,
                "hyperparameter": hyperparameters.get(way.name),
                "seconds_once_per_geometry": once if way.name.startswith("NID") else 0.0,
                "classical": way.classical,
            }
            found.append((facts, picture))
    return found


def _network_name(path: Path) -> str:
    return path.stem.removesuffix("_ct").upper()


def _subjects(config: CTComparison, request: Request, made: Config) -> tuple[list[_Subject], dict[str, str]]:
    """What is reconstructed, and why other slices are not."""
    refs = list_images(made.signals_of(ImagesSection))["test"]
    random = [ref for ref in refs if ref.name != STANDARD][: config.phantoms]
    if not random:
        raise UserError(
            "signals.test of the dictionary",
            found="no phantom",
            expected="some to compare on",
            hint="keep some apart in its configuration",
        )
    subjects = [_Subject(ref, made, HELD_OUT) for ref in random]
    subjects += [_Subject(ref, made, STANDARD) for ref in refs if ref.name == STANDARD]
    failed: dict[str, str] = {}
    given = [named_slice(name) for name in config.slices]
    for name, path in named_files(request.inputs or [], EXTENSIONS):
        try:
            image = read_image(path, "grey")
            given.append(ImageRef(name, lambda image=image: image))  # type: ignore[misc]
        except UserError as error:
            failed[name] = str(error)
    return subjects + [_Subject(within_disc(ref), made, ref.name) for ref in given], failed


def means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The means over the signals of a group, for each number of views, dose and method."""
    found = []
    keys = ("group", "dose", "views", "method", "classical")
    for case in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        own = [row for row in rows if tuple(row[key] for key in keys) == case]
        figures = {key: float(np.mean([row[key] for row in own])) for key in ("psnr_db", "ssim", "seconds")}
        once = own[0]["seconds_once_per_geometry"]
        found.append({**dict(zip(keys, case, strict=True)), "count": len(own), **figures, "once": once})
    return found


def _table(rows: Sequence[dict[str, Any]], key: str, form: str, group: str = HELD_OUT) -> Table:
    """Means of a figure: a row per dose and number of views, a column per method."""
    own = [mean for mean in means(rows) if mean["group"] == group]
    methods = list(dict.fromkeys(mean["method"] for mean in own))
    cells: list[list[Any]] = []
    for dose, views in dict.fromkeys((mean["dose"], mean["views"]) for mean in own):
        figures = {m["method"]: m[key] for m in own if (m["dose"], m["views"]) == (dose, views)}
        cells.append([dose, views, *(figures.get(method) for method in methods)])
    return Table([Column("dose"), Column("views"), *(Column(method, "", form) for method in methods)], cells)


def _further(rows: Sequence[dict[str, Any]]) -> dict[str, Table]:
    tables = {
        f"SSIM, {HELD_OUT}": _table(rows, "ssim", ".3f"),
        f"seconds per slice, {HELD_OUT}": _table(rows, "seconds", ".3f"),
    }
    for group in dict.fromkeys(row["group"] for row in rows):
        if group != HELD_OUT:
            words = "the standard phantom" if group == STANDARD else f"{group}, unlike what was trained on"
            tables[f"PSNR (dB), {words}"] = _table(rows, "psnr_db", ".2f", group)
    return tables


def _draw(
    config: CTComparison,
    rows: Sequence[dict[str, Any]],
    truths: dict[str, Float[np.ndarray, "S S"]],
    pictures: dict[tuple[str, int, str, str], Float[np.ndarray, "S S"]],
    out: Path,
) -> dict[str, str]:
    files: dict[str, str] = {}
    views = config.shown if config.shown in config.views else config.views[0]
    for dose in dict.fromkeys(row["dose"] for row in rows):
        tag = dose.replace(" ", "-")
        lines: dict[str, dict[str, tuple[np.ndarray, str]]] = {}
        shown = list(truths)[:2] + [name for name in truths if name not in list(truths)[: config.phantoms]]
        for row in rows:
            if row["dose"] == dose and row["views"] == views and row["signal"] in shown:
                line = lines.setdefault(row["signal"], {"truth": (truths[row["signal"]][..., None], "")})
                picture = pictures[dose, views, row["signal"], row["method"]]
                line[row["method"]] = (picture[..., None].astype(np.float32), f"{row['psnr_db']:.1f} dB")
        picture_grid(out / f"slices-{tag}.png", lines, title=f"{views} views, {dose}")
        files[f"slices-{tag}.png"] = f"slices from {views} views, {dose}"
        series: dict[str, tuple[ArrayLike, ArrayLike]] = {}
        own = [mean for mean in means(rows) if mean["dose"] == dose and mean["group"] == HELD_OUT]
        for method in dict.fromkeys(mean["method"] for mean in own):
            points = [(mean["views"], mean["psnr_db"]) for mean in own if mean["method"] == method]
            series[method] = ([x for x, _ in points], [y for _, y in points])
        curve(out / f"views-{tag}.png", series, "views", f"PSNR (dB), {HELD_OUT}, {dose}", logarithmic=True)
        files[f"views-{tag}.png"] = f"PSNR against views, {dose}"
    return files
