"""Whole images: learned experts with more and more detail, beside detail alone and networks of several sizes."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field

from nid_dist.baselines.config import load_baseline
from nid_dist.baselines.inr import Baseline
from nid_dist.code import Code
from nid_dist.coding.method import Method
from nid_dist.coding.solvers import LastPrepared
from nid_dist.config.section import NonNegativeInt, PathText, PositiveInt
from nid_dist.detail.pursuit import pursue
from nid_dist.device import Stopwatch
from nid_dist.evaluation.lpips import load_lpips
from nid_dist.evaluation.operations import stored_numbers
from nid_dist.evaluation.report import Column, Table, means
from nid_dist.model import Model
from nid_dist.tasks.comparison import (
    Cells,
    ComparedMethod,
    Curves,
    Grid,
    Outcome,
    Reconstruction,
    Report,
    Request,
    Specification,
    Subject,
    Trained,
    Trial,
)
from nid_dist.tasks.images.comparison import figures, network_methods, seconds_series, show
from nid_dist.tasks.images.fit import ImageArray, fit_image
from nid_dist.tasks.images.photographs import PhotographComparison, photographs
from nid_dist.tasks.images.preparation import prepare

_METHOD = Method("omp", 32)
_COLUMNS = [
    Column("image", key="image"),
    Column("method", key="method"),
    Column("PSNR", "dB", ".2f", "psnr_db"),
    Column("SSIM", "", ".4f", "ssim"),
    Column("LPIPS", "", ".3f", "lpips"),
    Column("numbers", "learned", ",.0f", "learned"),
    Column("numbers", "detail", ",.0f", "detail"),
    Column("numbers", "in all", ",.0f", "numbers"),
    Column("time", "s per image", ".2f", "seconds"),
]


class WholeComparison(PhotographComparison):
    """Whole images, of learned experts and detail."""

    task: Literal["whole"] = "whole"
    run_dir: PathText = "runs/compare_whole"
    side: PositiveInt = Field(128, description="of the squares that images are cut and resized to")
    dictionary: Trained
    detail: list[NonNegativeInt] = Field(
        [0, 256, 512, 1024, 2048, 4096, 8192], min_length=1, description="coefficients of detail beside the learned"
    )
    widths: list[PositiveInt] = Field([26, 56, 256], description="of the networks, of each kind")

    def specify(self, request: Request) -> Specification:
        """Say what is compared."""
        model, training = request.dictionary(self.dictionary)
        prepared, name = LastPrepared(model.dictionary), self.dictionary.name
        methods = [_dictionary_method(name, model, prepared, count) for count in self.detail]
        methods += [_detail_method(model, count) for count in self.detail if count]
        for path in map(request.beside, self.baselines):
            config, label = load_baseline(path), path.stem.upper()
            for width in self.widths:
                network = Baseline(config.model_copy(update={"width": width}))
                methods += network_methods(network, f"{label}, {width} wide", seconds=self.seconds)
        images, failed = photographs(request, training, self.limit)
        trial = Trial(list(self._subjects(images)), lambda: methods)
        measure = partial(figures, load_lpips(self.lpips))
        return Specification([trial], measure, _original, show, self._report, failed=failed)

    def _subjects(self, images: Sequence[tuple[str, ImageArray]]) -> Iterator[Subject]:
        grid = Grid("grid", f"{self.side}x{self.side} pixels, held out", "original and representations side by side")
        for name, whole in images:

            def load(name: str = name, whole: ImageArray = whole) -> tuple[ImageArray, ImageArray]:
                image = prepare(whole, size=self.side, name=name)
                return image, image

            yield Subject(name, {"image": name}, load, grid, name)

    def _report(self, outcomes: Sequence[Outcome]) -> Report:
        rows = [outcome.row for outcome in outcomes]
        averaged: list[dict[str, Any]] = means(rows, ["method"])
        families = {outcome.method.name: outcome.method.family for outcome in outcomes}
        by_numbers = dict[str, tuple[list[float], list[float]]]()
        for row in averaged:
            name = row["method"].partition(",")[0] if "detail" not in row else families[row["method"]]
            for into, key in zip(by_numbers.setdefault(name, ([], [])), ("numbers", "psnr_db"), strict=True):
                into.append(row[key])
        curves = {
            "numbers": Curves(by_numbers, "numbers stored per image", "PSNR (dB)", "PSNR against numbers stored"),
            "seconds": Curves(seconds_series(outcomes), "seconds per image", "PSNR (dB)", "PSNR against seconds"),
        }
        reached = {row["method"]: row["psnr_db"] for row in averaged}
        wanted = _words(self.dictionary.name, 2048)
        facts = {f"db_whole_{self.side}": reached[wanted]} if wanted in reached else {}
        for row in averaged:
            row["image"] = f"mean of {row['count']}"
        return Report(Table.of(_COLUMNS, [*averaged, *rows]), {"means": averaged, **facts}, curves=curves)


_ALONE = "detail alone"


def _words(name: str, count: int) -> str:
    return f"{name} + {count} detail" if count else name


def _dictionary_method(name: str, model: Model, prepared: LastPrepared, count: int) -> ComparedMethod:
    def fit(image: ImageArray, _: float | None) -> Reconstruction:
        fitted = fit_image(model, image, [_METHOD], prepared=prepared, whole=True, detail=count or None)[_METHOD.label]
        return Reconstruction(fitted.render, {"seconds": fitted.seconds, "trace": [], **_counted(fitted.code)})

    return ComparedMethod(_words(name, count), fit, repeats=0 if count else 3, family=name)


def _counted(code: Code) -> dict[str, int]:
    numbers, detail = stored_numbers(code), 0 if code.detail is None else code.detail.numbers
    return {"numbers": numbers, "detail": detail, "learned": numbers - detail}


def _detail_method(model: Model, count: int) -> ComparedMethod:
    """Of a picture less its means: what the learned experts are there for."""

    def fit(image: ImageArray, _: float | None) -> Reconstruction:
        watch = Stopwatch(model.device)
        picture = torch.from_numpy(image).to(model.device)
        height, width, channels = image.shape
        constant = torch.eye(channels).view(channels, 1, 1, channels).expand(-1, height, width, -1)
        found = pursue(picture, count, constant.to(picture) / (height * width) ** 0.5)
        shown = (picture - found.left_over).clamp(0, 1).cpu().numpy()
        detail = found.detail.numbers
        costs = {"numbers": detail + channels, "detail": detail, "learned": 0, "trace": []}
        return Reconstruction(lambda: shown, {"seconds": watch.seconds(), **costs})

    return ComparedMethod(f"{_ALONE}, {count}", fit, shown=False, family=_ALONE)


def _original(subject: Subject, image: ImageArray, _: Any) -> Cells:
    return {subject.label: {"original": (image, "")}}
