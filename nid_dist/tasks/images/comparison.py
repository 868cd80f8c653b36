"""Image regression: the table of Wang et al. 2022, on the embedded photographs or on anyone's images.

Every method represents the same images, one after the other, and is shown as a picture, clipped to [0, 1].
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor

from nid_dist.baselines.inr import Baseline, Network
from nid_dist.coding.method import Method
from nid_dist.coding.solvers import LastPrepared
from nid_dist.config import Config
from nid_dist.config.section import PositiveInt
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.evaluation.lpips import Perceptual, load_lpips
from nid_dist.evaluation.operations import image_operations, stored_numbers
from nid_dist.evaluation.report import Column, Row, Table, means
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
from nid_dist.tasks.images.compression import FAMILY, bytes_curves, bytes_table, compression_methods
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.fit import ImageArray, fit_image
from nid_dist.tasks.images.photographs import PhotographComparison, photographs
from nid_dist.tasks.images.preparation import prepare
from nid_dist.tasks.images.task import ImageTask
from nid_dist.tasks.images.transforms import fixed_transforms

METHODS = (Method("init"), Method("adam", 5), Method("adam", 10), Method("ridge"), Method("omp", 32))
_WORDS = {"init": "init", "adam5": "+ 5 steps", "adam10": "+ 10 steps", "ridge": "ridge", "omp32": "OMP"}
_TRANSFORMS = {"dct_best": "DCT", "pca_best": "PCA"}
_REPEATS = 3  # of what takes milliseconds
_SHOWN = 3  # images in the picture grid
_COLUMNS = [
    Column("image", key="image"),
    Column("method", key="method"),
    Column("PSNR", "dB", ".2f", "psnr_db"),
    Column("SSIM", "", ".4f", "ssim"),
    Column("LPIPS", "", ".3f", "lpips"),
    Column("numbers", "per image", ",.0f", "numbers"),
    Column("numbers", "shared", ",.0f", "shared"),
    Column("operations", "GMAC per image", ".3f", "gmac"),
    Column("time", "s per image", ".4f", "seconds"),
    Column("rate", "images/s", ".2f", "rate"),
]


class ImageDictionary(Trained):
    """A dictionary of images."""

    whole: bool = Field(False, description="an image is one signal, the dictionary's grid stretched over it")


class ImageComparison(PhotographComparison):
    """Image regression."""

    task: Literal["images"] = "images"
    sides: list[PositiveInt] = Field([128, 178], min_length=1, description="images are cut and resized to squares")
    set: list[str] = Field([], description="overrides of all dictionaries, section.key=value")
    dictionaries: list[ImageDictionary] = Field(min_length=1)
    transforms: list[PositiveInt] = Field(
        [64, 128],
        description="coefficients a patch of the fixed transforms, DCT and PCA, of the first dictionary's data",
    )
    meta_steps: list[PositiveInt] = Field([5, 10], min_length=1, description="steps from a learned initialisation")

    def specify(self, request: Request) -> Specification:
        """Say what is compared."""
        perceptual = load_lpips(self.lpips)
        methods: list[ComparedMethod] = []
        trainings: list[Config] = []
        trained: list[tuple[str, Model]] = []
        for dictionary in self.dictionaries:
            model, made = request.dictionary(self.with_overrides(dictionary))
            trained += [] if dictionary.whole else [(dictionary.name, model)]
            methods += dictionary_methods(dictionary.name, model, whole=dictionary.whole)
            trainings.append(made)
        methods += transform_methods(trainings[0], self.transforms)
        for name, baseline, learned in self.networks(request, trainings[0]):
            methods += network_methods(baseline, name, self.meta_steps if learned else None, self.seconds)
        # Of each dictionary and network what comes last is shown, and of the first dictionary what comes first.
        last = {method.family: method.name for method in methods}
        chosen = {methods[0].name, *last.values()}
        methods = [replace(method, shown=method.name in chosen) for method in methods]
        if trained:
            methods += compression_methods(*trained[0])
        images, failed = photographs(request, trainings[0], self.limit)
        trials = [Trial(list(_subjects(images, side)), lambda: methods) for side in self.sides]
        return Specification(trials, partial(figures, perceptual), _original, show, report, failed=failed)

    def with_overrides(self, dictionary: Trained) -> Trained:
        """A dictionary with what is set for all."""
        return dictionary.model_copy(update={"set": [*self.set, *dictionary.set]})


def _subjects(images: Sequence[tuple[str, ImageArray]], side: int) -> Iterator[Subject]:
    group = f"{side}x{side}"
    grid = Grid(f"grid-{group}", f"{group} pixels, held out", "original and representations side by side")
    for place, (name, whole) in enumerate(images):

        def load(name: str = name, whole: ImageArray = whole) -> tuple[ImageArray, ImageArray]:
            image = prepare(whole, size=side, name=name)
            return image, image

        yield Subject(name, {"group": group, "image": name}, load, grid if place < _SHOWN else None, name)


def dictionary_methods(name: str, model: Model, *, whole: bool = False) -> list[ComparedMethod]:
    """All methods of a dictionary, of this name.

    What depends on the grid alone, and not on the image, is found once for all images and does not count. `whole`: an
    image is one signal, whatever the dictionary was trained on.
    """
    prepared = LastPrepared(model.dictionary)
    shared = sum(parameter.numel() for parameter in model.dictionary.parameters())

    def fit(image: ImageArray, _: float | None, method: Method) -> Reconstruction:
        fitted = fit_image(model, image, [method], prepared=prepared, whole=whole)[method.label]
        operations = image_operations(model, len(fitted.tiling), len(fitted.tiling.coords))
        costs = {
            "seconds": fitted.seconds,
            "numbers": stored_numbers(fitted.code),
            "shared": shared,
            "gmac": (operations.decode + (operations.encode if method.needs_gate else 0)) / 1e9,
            "trace": [],
        }
        return Reconstruction(fitted.render, costs)

    return [
        ComparedMethod(f"{name}, {_WORDS[method.label]}", partial(fit, method=method), repeats=_REPEATS, family=name)
        for method in METHODS
        if model.gate_reads_signals or not method.needs_gate
    ]


def transform_methods(training: Config, coefficients: Sequence[int]) -> list[ComparedMethod]:
    """The best so many coefficients a patch of fixed transforms, of the patches that a dictionary was trained on."""
    if not coefficients or training.signals_of(ImagesSection).patch is None:
        return []
    transforms = fixed_transforms(ImageTask(training))
    side = training.signals_of(ImagesSection).grid_shape[0]

    def fit(image: ImageArray, _: float | None, label: str, k: int) -> Reconstruction:
        begin = time.perf_counter()
        picture = transforms[label](image, k)
        channels, patches = image.shape[2], math.prod(-(-length // side) for length in image.shape[:2])
        costs = {
            "seconds": time.perf_counter() - begin,
            "numbers": patches * (k + channels),
            "shared": (side * side * channels) ** 2 if label == "pca_best" else 0,
            "gmac": None,
            "trace": [],
        }
        return Reconstruction(lambda: picture, costs)

    return [
        ComparedMethod(
            f"{_TRANSFORMS[label]}, best k={k}",
            partial(fit, label=label, k=k),
            repeats=_REPEATS,
            family=_TRANSFORMS[label],
        )
        for label in _TRANSFORMS
        for k in coefficients
    ]


def network_methods(
    baseline: Baseline, name: str, steps: Sequence[int] | None = None, seconds: float | None = None
) -> list[ComparedMethod]:
    """A network per image, after some numbers of steps each (None: after all, or `seconds`)."""

    def fit(image: ImageArray, _: float | None, count: int | None) -> Reconstruction:
        coords = coordinate_grid(image.shape[:2]).to(baseline.device)
        values = torch.from_numpy(image).flatten(0, 1)

        def picture(flat: Tensor) -> ImageArray:
            shown: ImageArray = flat.detach().cpu().clamp(0, 1).reshape(image.shape).numpy()
            return shown

        def watch(network: Network) -> float:
            return psnr(picture(network(coords)), image)

        limit = seconds if count is None else None
        fitted = baseline.fit(coords, values, steps=count, max_seconds=limit, watch=watch)
        costs = {
            "seconds": fitted.seconds,
            "numbers": fitted.network.parameters_count,
            "shared": 0,
            "gmac": fitted.network.macs_per_coordinate * len(coords) / 1e9,
            "trace": fitted.trace,
        }
        return Reconstruction(lambda: picture(fitted.render(coords)), costs)

    return [
        ComparedMethod(name if count is None else f"{name} + {count} steps", partial(fit, count=count), family=name)
        for count in steps or (None,)
    ]


def figures(perceptual: Perceptual | None, picture: ImageArray, _: Any, image: ImageArray) -> dict[str, float | None]:
    """How close a picture is to the image."""
    lpips = None if perceptual is None else perceptual(picture, image)
    return {"psnr_db": psnr(picture, image), "ssim": ssim(picture, image), "lpips": lpips}


def show(subject: Subject, picture: ImageArray, _: Any, __: Any, row: Row) -> Cells:
    """A picture and its PSNR, where that is known."""
    caption = "" if row["psnr_db"] is None else f"{row['psnr_db']:.2f} dB"
    return {subject.label: {row["method"]: (picture, caption)}}


def _original(subject: Subject, image: ImageArray, _: Any) -> Cells:
    return {subject.label: {"original": (image, "")}}


def report(outcomes: Sequence[Outcome]) -> Report:
    """Means over the images, and the plots against seconds and against bytes."""
    sized = [outcome for outcome in outcomes if outcome.method.family == FAMILY]
    outcomes = [outcome for outcome in outcomes if outcome.method.family != FAMILY]
    averaged = means([outcome.row for outcome in outcomes], ["group", "method"])
    for mean in averaged:
        mean["image"] = f"{mean['group']}, mean of {mean['count']}"
        mean["rate"] = 1 / mean["seconds"] if mean["seconds"] else None
    plots = {}
    for group in dict.fromkeys(outcome.row["group"] for outcome in outcomes):
        series = seconds_series([outcome for outcome in outcomes if outcome.row["group"] == group])
        plots[f"seconds-{group}"] = Curves(series, "seconds per image", "PSNR (dB)", "PSNR against seconds")
    sizes: list[Row] = [
        {**mean, "image": f"{mean['group']}, mean of {mean['count']}"}
        for mean in means([outcome.row for outcome in sized], ["group", "method"])
    ]
    for group in dict.fromkeys(outcome.row["group"] for outcome in sized):
        plots[f"bytes-{group}"] = bytes_curves([outcome for outcome in sized if outcome.row["group"] == group])
    facts = {"means": averaged, "bytes": sizes}
    tables = {"Bytes at a quality": bytes_table(sizes)} if sizes else {}
    return Report(Table.of(_COLUMNS, averaged), facts, tables=tables, curves=plots)


def seconds_series(outcomes: Sequence[Outcome]) -> dict[str, tuple[ArrayLike, ArrayLike]]:
    """Means over the images: a dictionary's methods by their seconds, and networks on their way."""
    series: dict[str, tuple[ArrayLike, ArrayLike]] = {}
    for family in dict.fromkeys(outcome.method.family for outcome in outcomes):
        own = [outcome.row for outcome in outcomes if outcome.method.family == family]
        if own[-1]["trace"]:
            # Networks are looked at after the same numbers of steps, but some get fewer steps in their time.
            traces = [row["trace"] for row in own if row["method"] == own[-1]["method"]]
        else:
            names = dict.fromkeys(row["image"] for row in own)
            traces = [[(row["seconds"], row["psnr_db"]) for row in own if row["image"] == name] for name in names]
        points = np.array([np.mean(found, axis=0) for found in zip(*traces, strict=False)])
        points = points[points[:, 0] > 0]
        points = points[points[:, 0].argsort()]
        series[family] = (points[:, 0], points[:, 1])
    return series
