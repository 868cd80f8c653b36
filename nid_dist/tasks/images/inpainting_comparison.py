"""Inpainting and few measurements: dictionary, networks and a classical method on corruptions whose truth is known."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from tqdm import tqdm

from nid_dist.baselines.config import load_baseline
from nid_dist.baselines.inr import Baseline
from nid_dist.comparison.base import Comparison, Request, Results, Trained
from nid_dist.comparison.dictionaries import trained
from nid_dist.config import Config
from nid_dist.config.section import PositiveFloat, PositiveInt
from nid_dist.evaluation.grids import picture_grid
from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.evaluation.lpips import load_lpips
from nid_dist.evaluation.pictures import curve
from nid_dist.evaluation.report import Column, Table
from nid_dist.tasks.images.corruptions import CORRUPTIONS, Corrupted, corrupt
from nid_dist.tasks.images.fillers import Filler, classical_filler, dictionary_filler, fill_all, network_filler
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.photographs import meta_start, photographs
from nid_dist.tasks.images.preparation import prepare

BLIND = "NID, mask unknown"


class InpaintingComparison(Comparison):
    """Inpainting."""

    task: Literal["inpainting"] = "inpainting"
    run_dir: str = "runs/compare_images"
    side: PositiveInt = Field(128, description="images are cut and resized to squares of this side")
    limit: PositiveInt = Field(3, description="images at most, of the dictionary's test split or of --input")
    dictionary: Trained
    corruptions: list[Literal["box", "stripes", "text", "salt_and_pepper", "occluder"]] = Field(
        ["box", "stripes", "text", "salt_and_pepper", "occluder"], description="with the mask known, and unknown"
    )
    kept: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.5, 0.2, 0.1, 0.05, 0.02], description="shares of pixels, drawn at random, that are all that is known"
    )
    baselines: list[str] = Field([], description="configurations of networks, relative to this file")
    meta_steps: PositiveInt = Field(10, description="steps from a learned initialisation")
    seconds: PositiveFloat = Field(30.0, description="that a network may fit an image")
    noise: PositiveFloat = Field(0.01, description="standard deviation of known pixels, for the dictionary")
    lpips: bool | None = Field(None, description="whether to measure it; null: where its weights are found")


def compare_inpainting(config: InpaintingComparison, request: Request) -> Results:
    """Make the tables, the plot against the share of known pixels, and the picture grids.

    Args:
        config: the comparison.
        request: whose images, and where pictures go.

    Returns:
        The results.

    Raises:
        UserError: when something cannot be read or trained.
    """
    perceptual = load_lpips(config.lpips)
    model, training = trained(config.dictionary, request, config.run_dir)
    fillers: dict[str, Filler] = {
        "NID": dictionary_filler(model, config.noise),
        BLIND: dictionary_filler(model, config.noise, blind=True),
    }
    fillers |= _networks(config, request, training) | {"biharmonic": classical_filler}
    images, failed = photographs(request, training, config.limit)
    cases = [(name, 1.0) for name in config.corruptions] + [("random", share) for share in config.kept]
    work = [(name, image, case) for name, image in images for case in cases]
    rows: list[dict[str, Any]] = []
    grids: dict[str, dict[str, Any]] = {}
    for name, whole, (kind, share) in tqdm(work, unit="case", disable=not sys.stderr.isatty()):
        image = prepare(whole, size=config.side, name=name)
        corrupted = corrupt(image, kind, kept=share, seed=sorted(CORRUPTIONS).index(kind))
        words = f"{share:.0%} of pixels" if kind == "random" else kind.replace("_", " ")
        # Where most pixels are lost, what is wrong is not sparse, and cannot be found.
        able = {key: fill for key, fill in fillers.items() if kind != "random" or key != BLIND}
        done = fill_all(able, corrupted.image, corrupted.known)
        pictures = {key: filled.picture for key, filled in done.items()}
        for method, picture in ({"corrupted": corrupted.image} | pictures).items():
            seconds = done[method].seconds if method in done else None
            figures = _figures(picture, image, corrupted)
            figures["lpips"] = None if perceptual is None else perceptual(picture, image)
            rows.append(
                {"image": name, "corruption": words, "kept": share, "method": method, "seconds": seconds, **figures}
            )
        grids.setdefault(name, {})[words] = _row(image, corrupted, pictures)
    return Results(
        _table(rows, "psnr_db"),
        rows,
        {"noise": config.noise, "network_seconds": config.seconds},
        _draw(config, rows, grids, request.out),
        {
            "PSNR over the unknown pixels alone (dB)": _table(rows, "psnr_unknown_db"),
            "Seconds": _table(rows, "seconds"),
        },
        failed,
    )


def _networks(config: InpaintingComparison, request: Request, training: Config) -> dict[str, Filler]:
    found: dict[str, Filler] = {}
    for name in config.baselines:
        path = request.beside(name)
        network = load_baseline(path)
        if network.meta is None:
            found[path.stem.upper()] = network_filler(Baseline(network), seconds=config.seconds)
        else:
            start = meta_start(network, training, Path(config.run_dir) / f"{path.stem}.safetensors")
            found[f"{path.stem.capitalize()} + {config.meta_steps} steps"] = network_filler(
                Baseline(network, start), steps=config.meta_steps
            )
    return found


def _figures(picture: ImageArray, image: ImageArray, corrupted: Corrupted) -> dict[str, Any]:
    lost = ~corrupted.known
    return {
        "psnr_db": psnr(picture, image),
        "psnr_unknown_db": psnr(picture[lost], image[lost]) if lost.any() else None,
        "ssim": ssim(picture, image),
    }


def _row(
    image: ImageArray, corrupted: Corrupted, pictures: Mapping[str, ImageArray]
) -> dict[str, tuple[ImageArray, str]]:
    shown = {key: (picture, f"{psnr(picture, image):.2f} dB") for key, picture in pictures.items()}
    return {"clean": (image, ""), "corrupted": (corrupted.image, f"{psnr(corrupted.image, image):.2f} dB"), **shown}


def _table(rows: Sequence[dict[str, Any]], key: str) -> Table:
    """Means over the images: a row per corruption, a column per method."""
    methods = [m for m in dict.fromkeys(row["method"] for row in rows) if key != "seconds" or m != "corrupted"]
    unit = "s" if key == "seconds" else "dB"
    cells: list[list[Any]] = []
    for words in dict.fromkeys(row["corruption"] for row in rows):
        line: list[Any] = [words]
        for method in methods:
            own = [r[key] for r in rows if (r["corruption"], r["method"]) == (words, method) and r[key] is not None]
            line.append(float(np.mean(own)) if own else None)
        cells.append(line)
    return Table([Column("corruption"), *(Column(method, unit, ".2f") for method in methods)], cells)


def _draw(
    config: InpaintingComparison, rows: Sequence[dict[str, Any]], grids: Mapping[str, Mapping[str, Any]], out: Path
) -> dict[str, str]:
    files: dict[str, str] = {}
    for name, grid in grids.items():
        file = f"grid-{Path(name).stem}.png"
        picture_grid(out / file, grid, title=f"{name}, held out, {config.side}x{config.side}")
        files[file] = "clean, corrupted, and every method"
    drawn = [row for row in rows if row["corruption"].endswith("of pixels") and row["method"] != "corrupted"]
    if len(config.kept) > 1 and drawn:
        series = {}
        for method in dict.fromkeys(row["method"] for row in drawn):
            own = [
                [row["psnr_db"] for row in drawn if (row["method"], row["kept"]) == (method, s)] for s in config.kept
            ]
            series[method] = ([100 * share for share in config.kept], [float(np.mean(scores)) for scores in own])
        curve(out / "known.png", series, "known pixels (%)", "PSNR (dB)", logarithmic=True)
        files["known.png"] = "PSNR against the share of known pixels"
    return files
