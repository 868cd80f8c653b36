"""`fit`: images a second and dB of each way to fit a new image, and how long a network per image takes to get there.

All in one process, on the same held-out colour images of 128 x 128 pixels, n = 1024, k = 128: an image is one signal of
128 coefficients, or 64 patches of 16 x 16 with 128 coefficients each.
"""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nid_dist.baselines.config import load_baseline
from nid_dist.baselines.inr import Baseline, Fitted, Network
from nid_dist.coding.method import Method
from nid_dist.coding.solvers import PreparedDictionary
from nid_dist.comparison.base import Request
from nid_dist.comparison.dictionaries import trained
from nid_dist.comparison.factory import load_comparison
from nid_dist.config import find_config
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.report import Column, Table
from nid_dist.fitting import fit_signals
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.tasks.images.comparison import ImageComparison
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.preparation import prepare
from nid_dist.tasks.images.sources import list_images
from nid_dist.tasks.images.tiling import Tiling

CONFIG = find_config("compare_images")
METHODS = (
    Method("init"),
    Method("adam", 5),
    Method("adam", 10),
    Method("ridge"),
    Method("omp", 8),
    Method("omp", 32),
    Method("omp"),
    Method("fista"),
)
NETWORKS = ("siren", "ffm")
_SIDE, _IMAGES, _SUPPORT = 128, 63, 128
_JUDGED = "omp32"  # four atoms a round: to two hundredths of a decibel what one atom a round gives, and sooner
_SECONDS = (1.0, 4.0, 15.0, 60.0)
"""That a network may take: its learning rate falls over them, and the first that are enough count."""

_COLUMNS = [
    Column("method"),
    Column("PSNR", "dB", ".2f"),
    Column("time", "s per image", ".4f"),
    Column("rate", "images/s", ".1f"),
    Column("time", "times that of omp32", ".2f"),
]


@dataclass(frozen=True)
class Fits:
    """What the methods made of the images.

    Args:
        scores: mean PSNR by method.
        seconds: per image, when all are fitted together; a median.
        first: PSNR of the first image by method.
    """

    scores: dict[str, float]
    seconds: dict[str, float]
    first: dict[str, float]


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Train or find the dictionaries of `compare_images.yaml` with k = 128, then fit.

    Args:
        quick: a little training and a second for each network, to see that it works.

    Returns:
        The figures and the table. For whole images `ridge_images_per_second`, `db_ridge`, `db_adam10`, `db_omp` (means
        over the images) and so on, and `siren_time_ratio`: seconds in which SIREN reaches the dB of `omp32` on the
        first image, over those of `omp32`; a network that does not reach it in a minute counts with that, and
        `siren_reached` is 0. The same with `patches_` for patches.
    """
    _, config = load_comparison(CONFIG)
    assert isinstance(config, ImageComparison)
    figures: dict[str, Any] = {}
    rows: list[list[Any]] = []
    for whole in (True, False):
        prefix, words = ("", "whole") if whole else ("patches_", "patches")
        model, images = _material(config, whole, quick)
        fits = dictionary_fits(model, images, whole=whole, repeats=1 if quick else 3)
        for label, score in fits.scores.items():
            spent = fits.seconds[label]
            figures |= {f"{prefix}db_{label}": score, f"{prefix}{label}_images_per_second": 1 / spent}
            rows.append([f"NID, {words}, {label}", score, spent, 1 / spent, spent / fits.seconds[_JUDGED]])
        for name in NETWORKS:
            goal = fits.first[_JUDGED]
            fitted, reached = network_fit(name, images[0], goal, _SECONDS[: 1 if quick else None])
            done = reached >= goal
            figures |= {
                f"{prefix}{name}_time_ratio": fitted.seconds / fits.seconds[_JUDGED],
                f"{prefix}{name}_seconds": fitted.seconds,
                f"{prefix}{name}_db": reached,
                f"{prefix}{name}_reached": float(done),
            }
            goals = f"{name}, until {goal:.2f} dB" + ("" if done else " (not reached)")
            ratio = fitted.seconds / fits.seconds[_JUDGED]
            rows.append([goals, reached, fitted.seconds, 1 / fitted.seconds, ratio])
    return figures, Table(_COLUMNS, rows)


def dictionary_fits(model: Model, images: Sequence[ImageArray], *, whole: bool, repeats: int) -> Fits:
    """Fit all images together by each method.

    Args:
        model: trained.
        images: of one size.
        whole: an image is one signal.
        repeats: timed runs, after one that is not.

    Returns:
        PSNR and seconds.
    """
    patch = None if whole else model.config.signals_of(ImagesSection).patch
    tiling = Tiling(images[0].shape[0], images[0].shape[1], patch, patch)
    values = torch.cat([tiling.split(image) for image in images])
    gate_input = _shrunk(images, model) if whole and model.grid_shape != images[0].shape[:2] else values
    prepared = PreparedDictionary(model.dictionary, Sampling(tiling.coords))
    rounds = [
        {
            method.label: fit_signals(model, values, tiling.coords, [method], gate_input, prepared=prepared)[
                method.label
            ]
            for method in METHODS
        }
        for _ in range(1 + repeats)
    ]
    seconds = {label: statistics.median(r[label].seconds for r in rounds[1:]) / len(images) for label in rounds[0]}
    scores: dict[str, list[float]] = {}
    for label, fit in rounds[0].items():
        f = model.dictionary(fit.code, tiling.coords).split(len(tiling))
        shown = [tiling.assemble(part).clamp(0, 1).numpy() for part in f]
        scores[label] = [psnr(picture, image) for picture, image in zip(shown, images, strict=True)]
    means = {label: statistics.fmean(own) for label, own in scores.items()}
    return Fits(means, seconds, {label: own[0] for label, own in scores.items()})


def network_fit(name: str, image: ImageArray, goal: float, seconds: Sequence[float]) -> tuple[Fitted, float]:
    """Fit a network to an image until it reaches a PSNR.

    Args:
        name: of `configs/baselines/`.
        image: of any size.
        goal: in dB.
        seconds: after which it ends without, and begins anew with the next and a slower schedule.

    Returns:
        The network of the first run that reached the PSNR, or of the last; and its PSNR. What earlier runs took does
        not count.
    """
    coords, values = coordinate_grid(image.shape[:2]), torch.from_numpy(image).reshape(-1, image.shape[2])

    def watch(network: Network) -> float:
        return psnr(network(coords).clamp(0, 1).numpy(), values.numpy())

    baseline = Baseline(load_baseline(find_config(f"baselines/{name}.yaml", CONFIG.parent)))
    for limit in seconds:
        fitted = baseline.fit(coords, values, steps=10**6, max_seconds=limit, watch=watch, until=goal)
        if fitted.trace[-1][1] >= goal:
            break
    return fitted, fitted.trace[-1][1]


def _material(config: ImageComparison, whole: bool, quick: bool) -> tuple[Model, list[ImageArray]]:
    """The dictionary with k = 128, and held-out images."""
    chosen = next(d for d in config.dictionaries if d.whole == whole and d.name.endswith(f"k={_SUPPORT}"))
    short = ["training.steps=3", "training.batch=16", "logging.tensorboard=false"] if quick else []
    chosen = chosen.model_copy(update={"set": [*config.set, *chosen.set, *short]})
    with tempfile.TemporaryDirectory() as folder:
        model, training = trained(chosen, Request(CONFIG, None, Path(folder)), folder if quick else config.run_dir)
    photographs = [ref.load() for ref in list_images(training.signals_of(ImagesSection))["test"]]
    return model, squares(photographs, 3 if quick else _IMAGES)


def squares(photographs: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Squares of 128 x 128 out of photographs: each as a whole first, then their quarters, then their sixteenths.

    Args:
        photographs: larger than that.
        count: the most.

    Returns:
        Images.
    """
    found = [prepare(photograph, size=_SIDE) for photograph in photographs]
    for parts in (2, 4):
        for photograph in photographs:
            side = min(photograph.shape[:2]) // parts
            corners = [(row * side, column * side) for row in range(parts) for column in range(parts)]
            found += [prepare(photograph[r : r + side, c : c + side], size=_SIDE) for r, c in corners]
    return found[:count]


def _shrunk(images: Sequence[ImageArray], model: Model) -> torch.Tensor:
    shrunk = [prepare(image, size=model.grid_shape[0]) for image in images]
    return torch.stack([torch.from_numpy(image).flatten(0, 1) for image in shrunk])
