"""CT from few views: the dictionary, classical reconstruction and networks on the same scans.

Held-out phantoms are averaged; the standard phantom and real slices, which are unlike anything trained on, are shown by
themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from nid_dist.config import Config
from nid_dist.config.section import PathText, PositiveFloat, PositiveInt
from nid_dist.data.files import named_files
from nid_dist.data.reading import EXTENSIONS, read_image
from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.evaluation.report import Row, means, pivot
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.model import Model
from nid_dist.tasks.comparison import (
    Cells,
    ComparedMethod,
    Comparison,
    Curves,
    Grid,
    Outcome,
    Report,
    Request,
    Specification,
    Subject,
    Trained,
    Trial,
    series_of,
)
from nid_dist.tasks.ct.components import Components
from nid_dist.tasks.ct.methods import classical_methods, components_method, dictionary_methods, network_method
from nid_dist.tasks.ct.phantoms import STANDARD
from nid_dist.tasks.ct.scans import scan, scan_geometry, scannable, within_disc
from nid_dist.tasks.ct.slices import named_slice
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.sources import ImageRef, list_images
from nid_dist.tasks.images.task import prepared

HELD_OUT = "held-out phantoms"


class CTComparison(Comparison):
    """Reconstruction from few views."""

    task: Literal["ct"] = "ct"
    run_dir: PathText = "runs/compare_ct"
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

    def specify(self, request: Request) -> Specification:
        """Say what is compared."""
        model, made = request.dictionary(self.dictionary)
        if made.tomography is None:
            raise UserError(
                f"the dictionary {self.dictionary.name}",
                found="no section tomography",
                expected="one that says how slices are scanned",
                hint="add it to its configuration, as in configs/ct_shepp_logan.yaml",
            )
        slices, failed = self._slices(request, made)
        refs = list_images(made.signals_of(ImagesSection))
        kept = [_Slice(scannable(ref), made, "val") for ref in refs["val"][: self.tuned_on]]
        learned = [prepared(scannable(ref), made)[..., 0] for ref in refs["train"][: made.coding.prior_signals]]
        components = Components.of(np.stack(learned))
        doses = [Dose(photons, made.tomography.attenuation, made.tomography.electronic) for photons in self.photons]
        trials = []
        for dose, views in ((dose, views) for dose in doses for views in self.views):
            geometry = scan_geometry(made.tomography, model.grid_shape[0], views)
            subjects = [self._subject(place, each, geometry, dose) for place, each in enumerate(slices)]
            # Scans for tuning have noise of their own.
            apart = [each.subject(geometry, dose, 10_000 + place) for place, each in enumerate(kept)]
            trials.append(
                Trial(subjects, partial(self._methods, request, model, components, geometry, dose, subjects), apart)
            )
        return Specification(trials, _figures, _first, _show, self._report, psnr, failed)

    def _slices(self, request: Request, made: Config) -> tuple[list["_Slice"], dict[str, str]]:
        """What is reconstructed, and why other slices are not."""
        refs = list_images(made.signals_of(ImagesSection))["test"]
        random = [scannable(ref) for ref in refs if ref.name != STANDARD][: self.phantoms]
        if not random:
            raise UserError(
                "signals.test of the dictionary",
                found="no phantom",
                expected="some to compare on",
                hint="keep some apart in its configuration",
            )
        found = [_Slice(ref, made, HELD_OUT) for ref in random]
        found += [_Slice(ref, made, STANDARD) for ref in refs if ref.name == STANDARD]
        failed: dict[str, str] = {}
        given = [named_slice(name) for name in self.slices]
        for name, path in named_files(request.inputs or [], EXTENSIONS):
            try:
                image = read_image(path, "grey")
                given.append(ImageRef(name, lambda image=image: image))  # type: ignore[misc]
            except UserError as error:
                failed[name] = str(error)
        return found + [_Slice(within_disc(ref), made, ref.name) for ref in given], failed

    def _subject(self, place: int, own: "_Slice", geometry: Geometry, dose: Dose) -> Subject:
        grid = None
        views = self.shown if self.shown in self.views else self.views[0]
        if geometry.views == views and (place < 2 or place >= self.phantoms):
            words = f"{views} views, {dose.label}"
            grid = Grid(f"slices-{_tag(dose.label)}", words, f"slices from {words}")
        return own.subject(geometry, dose, place, grid)

    def _methods(
        self,
        request: Request,
        model: Model,
        components: Components,
        geometry: Geometry,
        dose: Dose,
        subjects: Sequence[Subject],
    ) -> list[ComparedMethod]:
        side = model.grid_shape[0]
        fitted = [subject for subject in subjects if subject.facts["group"] == HELD_OUT][: self.networks_on]
        methods = [*dictionary_methods(model, geometry, dose), components_method(components, geometry, dose)]
        methods += classical_methods(geometry, side)
        return methods + [
            network_method(request.beside(name), geometry, side, self.seconds, lambda subject: subject in fitted)
            for name in self.baselines
        ]

    def _report(self, outcomes: Sequence[Outcome]) -> Report:
        rows = [outcome.row for outcome in outcomes]
        held_out = [row for row in rows if row["group"] == HELD_OUT]
        tables = {
            f"SSIM, {HELD_OUT}": pivot(held_out, ["dose", "views"], "ssim", form=".3f"),
            f"seconds per slice, {HELD_OUT}": pivot(held_out, ["dose", "views"], "seconds", form=".3f"),
        }
        for group in dict.fromkeys(row["group"] for row in rows if row["group"] != HELD_OUT):
            words = "the standard phantom" if group == STANDARD else f"{group}, unlike what was trained on"
            own = [row for row in rows if row["group"] == group]
            tables[f"PSNR (dB), {words}"] = pivot(own, ["dose", "views"], "psnr_db")
        averaged = means(rows, ["group", "dose", "views", "method", "classical"])
        for mean in averaged:
            mean["once"] = mean.pop("seconds_once_per_geometry")
        curves = {}
        for dose in dict.fromkeys(row["dose"] for row in rows):
            series = series_of([m for m in averaged if (m["group"], m["dose"]) == (HELD_OUT, dose)], "views", "psnr_db")
            shows, ordinate = f"PSNR against views, {dose}", f"PSNR (dB), {HELD_OUT}, {dose}"
            curves[f"views-{_tag(dose)}"] = Curves(series, "views", ordinate, shows)
        facts = {"means": averaged, "figures": over_classical(averaged)}
        return Report(pivot(held_out, ["dose", "views"], "psnr_db"), facts, tables, curves)


def over_classical(means: Sequence[Row], method: str = "NID detail") -> dict[str, float]:
    """How far a method is above the best classical one, by PSNR and by SSIM, at the dose where that is least.

    `db_over_best_classical_V` and `ssim_over_best_classical_V` of held-out phantoms from V views,
    `db_over_best_classical_unlike` of all slices unlike the training data, at the views where it is least.
    """
    least: dict[str, float] = {}
    for mean in means:
        if mean["method"] != method or mean["group"] == STANDARD:
            continue
        beside = [m for m in means if m["classical"] and all(m[k] == mean[k] for k in ("group", "dose", "views"))]
        for key, name in (("psnr_db", "db"), ("ssim", "ssim")):
            above = mean[key] - max(each[key] for each in beside)
            which = mean["views"] if mean["group"] == HELD_OUT else "unlike"
            label = f"{name}_over_best_classical_{which}"
            least[label] = min(above, least.get(label, above))
    return least


@dataclass(frozen=True)
class _Slice:
    """A slice to be scanned: the images are compared with, the methods see scans alone."""

    ref: ImageRef
    config: Config
    group: str

    def subject(self, geometry: Geometry, dose: Dose, seed: int, grid: Grid | None = None) -> Subject:
        """It, scanned in some way."""

        def load() -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "S S"]]:
            clean = scan(self.ref, self.config.signals_of(ImagesSection), geometry)
            sinogram = dose.measure(clean, np.random.default_rng([seed, geometry.views]))
            return sinogram, prepared(self.ref, self.config)[..., 0]

        facts = {"group": self.group, "signal": self.ref.name, "views": geometry.views, "dose": dose.label}
        return Subject(self.ref.name, facts, load, grid, self.ref.name)


def _tag(dose: str) -> str:
    return dose.replace(" ", "-")


def _figures(picture: Float[np.ndarray, "S S"], _: Any, whole: Float[np.ndarray, "S S"]) -> Row:
    return {"psnr_db": psnr(picture, whole), "ssim": ssim(picture[..., None], whole[..., None])}


def _first(subject: Subject, _: Any, whole: Float[np.ndarray, "S S"]) -> Cells:
    return {subject.label: {"truth": (whole[..., None], "")}}


def _show(subject: Subject, picture: Float[np.ndarray, "S S"], _: Any, __: Any, row: Row) -> Cells:
    return {subject.label: {row["method"]: (picture[..., None].astype(np.float32), f"{row['psnr_db']:.1f} dB")}}
