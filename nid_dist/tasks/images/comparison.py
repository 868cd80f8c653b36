"""Image regression: the table of Wang et al. 2022, on the embedded photographs or on anyone's images.

Every method represents the same images, one after the other, and is shown as a picture, clipped to [0, 1].
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field
from tqdm import tqdm

from nid_dist.baselines.config import load_baseline
from nid_dist.baselines.inr import Baseline
from nid_dist.comparison.base import Comparison, Request, Results, Trained
from nid_dist.comparison.dictionaries import trained
from nid_dist.comparison.methods import Line, by_dictionary, by_network
from nid_dist.comparison.outcome import Outcome, means, table
from nid_dist.config import Config
from nid_dist.config.section import PositiveFloat, PositiveInt
from nid_dist.evaluation.grids import picture_grid
from nid_dist.evaluation.lpips import load_lpips
from nid_dist.evaluation.pictures import curve
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.photographs import meta_start, photographs
from nid_dist.tasks.images.preparation import prepare

_SHOWN = 3  # images in the picture grid


class ImageDictionary(Trained):
    """A dictionary of images."""

    whole: bool = Field(False, description="an image is one signal, the dictionary's grid stretched over it")


class ImageComparison(Comparison):
    """Image regression."""

    task: Literal["images"] = "images"
    run_dir: str = "runs/compare_images"
    sides: list[PositiveInt] = Field([128, 178], min_length=1, description="images are cut and resized to squares")
    limit: PositiveInt = Field(3, description="images at most, of the first dictionary's test split or of --input")
    set: list[str] = Field([], description="overrides of all dictionaries, section.key=value")
    dictionaries: list[ImageDictionary] = Field(min_length=1)
    baselines: list[str] = Field([], description="configurations of networks, relative to this file")
    meta_steps: list[PositiveInt] = Field([5, 10], min_length=1, description="steps from a learned initialisation")
    seconds: PositiveFloat = Field(60.0, description="that a network may fit an image")
    lpips: bool | None = Field(None, description="whether to measure it; null: where its weights are found")


def compare_images(config: ImageComparison, request: Request) -> Results:
    """Make the table, the plot and the picture grid.

    Args:
        config: the comparison.
        request: whose images, and where pictures go.

    Returns:
        The results.

    Raises:
        UserError: when something cannot be read or trained.
    """
    perceptual = load_lpips(config.lpips)
    lines: list[Line] = []
    trainings: list[Config] = []
    for dictionary in config.dictionaries:
        both = dictionary.model_copy(update={"set": [*config.set, *dictionary.set]})
        model, made = trained(both, request, config.run_dir)
        trainings.append(made)
        lines.append(by_dictionary(dictionary.name, model, whole=dictionary.whole))
    lines += [_network(config, request.beside(name), trainings[0]) for name in config.baselines]
    images, failed = photographs(request, trainings[0], config.limit)
    outcomes = _outcomes(config, images, lines)
    rows = [outcome.figures(perceptual) for outcome in outcomes]
    averaged = means(rows)
    return Results(table(averaged), rows, {"means": averaged}, _draw(outcomes, request.out), {}, failed)


def _network(config: ImageComparison, path: Path, training: Config) -> Line:
    network = load_baseline(path)
    if network.meta is None:
        return by_network(Baseline(network), path.stem.upper(), seconds=config.seconds)
    start = meta_start(network, training, Path(config.run_dir) / f"{path.stem}.safetensors")
    return by_network(Baseline(network, start), path.stem.capitalize(), steps=config.meta_steps)


def _outcomes(
    config: ImageComparison, images: Sequence[tuple[str, ImageArray]], lines: Sequence[Line]
) -> list[Outcome]:
    found: list[Outcome] = []
    work = [(side, name, image, line) for side in config.sides for name, image in images for line in lines]
    for side, name, image, line in tqdm(work, unit="fit", disable=not sys.stderr.isatty()):
        found += line(f"{side}x{side}", name, prepare(image, size=side, name=name))
    return found


def _draw(outcomes: Sequence[Outcome], out: Path) -> dict[str, str]:
    if not outcomes:
        return {}
    files = {}
    for group in dict.fromkeys(outcome.group for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.group == group]
        rows: dict[str, dict[str, Any]] = {}
        # Of each dictionary and network what comes last, and of the first dictionary what comes first.
        chosen = {own[0].method} | set({outcome.line: outcome.method for outcome in own}.values())
        for outcome in (outcome for outcome in own if outcome.method in chosen):
            row = rows.setdefault(outcome.image, {"original": (outcome.target, "")})
            row[outcome.method] = (outcome.picture, f"{outcome.psnr:.2f} dB")
        picture_grid(out / f"grid-{group}.png", dict(list(rows.items())[:_SHOWN]), title=f"{group} pixels, held out")
        files[f"grid-{group}.png"] = "original and representations side by side"
        curve(out / f"seconds-{group}.png", _series(own), "seconds per image", "PSNR (dB)", logarithmic=True)
        files[f"seconds-{group}.png"] = "PSNR against seconds"
    return files


def _series(outcomes: Sequence[Outcome]) -> dict[str, tuple[ArrayLike, ArrayLike]]:
    """Means over the images: a dictionary's methods by their seconds, and networks on their way."""
    series: dict[str, tuple[ArrayLike, ArrayLike]] = {}
    for line in dict.fromkeys(outcome.line for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.line == line]
        if own[-1].trace:
            # Networks are looked at after the same numbers of steps, but some get fewer steps in their time.
            traces = [outcome.trace for outcome in own if outcome.method == own[-1].method]
        else:
            traces = [
                [(outcome.seconds, outcome.psnr) for outcome in own if outcome.image == image]
                for image in dict.fromkeys(outcome.image for outcome in own)
            ]
        points = np.array([np.mean(found, axis=0) for found in zip(*traces, strict=False)])
        points = points[points[:, 0] > 0]
        points = points[points[:, 0].argsort()]
        series[line] = (points[:, 0], points[:, 1])
    return series
