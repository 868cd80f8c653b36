"""Inpainting and few measurements: dictionary, networks and a classical method on corruptions whose truth is known."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from nid_dist.config import Config
from nid_dist.config.section import PositiveFloat, PositiveInt
from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.evaluation.lpips import Perceptual, load_lpips
from nid_dist.evaluation.report import Row, means, pivot
from nid_dist.tasks.comparison import (
    Cells,
    ComparedMethod,
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
from nid_dist.tasks.images.comparison import show
from nid_dist.tasks.images.corruptions import CORRUPTIONS, Corrupted, corrupt
from nid_dist.tasks.images.fillers import Filler, classical_filler, dictionary_filler, leave, network_filler
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.photographs import PhotographComparison, photographs
from nid_dist.tasks.images.preparation import prepare

BLIND = "NID, mask unknown"


class InpaintingComparison(PhotographComparison):
    """Inpainting."""

    task: Literal["inpainting"] = "inpainting"
    side: PositiveInt = Field(128, description="images are cut and resized to squares of this side")
    dictionary: Trained
    corruptions: list[Literal["box", "stripes", "text", "salt_and_pepper", "occluder"]] = Field(
        ["box", "stripes", "text", "salt_and_pepper", "occluder"], description="with the mask known, and unknown"
    )
    kept: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.5, 0.2, 0.1, 0.05, 0.02], description="shares of pixels, drawn at random, that are all that is known"
    )
    meta_steps: PositiveInt = Field(10, description="steps from a learned initialisation")
    seconds: PositiveFloat = Field(30.0, description="that a network may fit an image")
    noise: PositiveFloat = Field(0.01, description="standard deviation of known pixels, for the dictionary")

    def specify(self, request: Request) -> Specification:
        """Say what is compared."""
        perceptual = load_lpips(self.lpips)
        model, training = request.dictionary(self.dictionary)
        fillers: dict[str, Filler] = {
            "NID": dictionary_filler(model, self.noise),
            BLIND: dictionary_filler(model, self.noise, blind=True),
        }
        fillers |= self.network_fillers(request, training) | {"biharmonic": classical_filler()}
        methods = [ComparedMethod("corrupted", leave, shown=False)]
        methods += [ComparedMethod(name, fill, takes=_able(name)) for name, fill in fillers.items()]
        images, failed = photographs(request, training, self.limit)
        trial = Trial([subject for name, image in images for subject in self._subjects(name, image)], lambda: methods)
        return Specification([trial], partial(figures, perceptual), first, show, self._report, failed=failed)

    def network_fillers(self, request: Request, training: Config) -> dict[str, Filler]:
        """The networks, by name."""
        return {
            f"{name} + {self.meta_steps} steps" if learned else name: network_filler(
                baseline, steps=self.meta_steps if learned else None, seconds=None if learned else self.seconds
            )
            for name, baseline, learned in self.networks(request, training)
        }

    def _subjects(self, name: str, whole: ImageArray) -> Iterator[Subject]:
        """An image in every state."""
        title = f"{name}, held out, {self.side}x{self.side}"
        grid = Grid(f"grid-{Path(name).stem}", title, "clean, corrupted, and every method")
        for kind, share in [*((kind, 1.0) for kind in self.corruptions), *(("random", share) for share in self.kept)]:

            def load(kind: Any = kind, share: float = share) -> tuple[Corrupted, ImageArray]:
                image = prepare(whole, size=self.side, name=name)
                return corrupt(image, kind, kept=share, seed=sorted(CORRUPTIONS).index(kind)), image

            words = f"{share:.0%} of pixels" if kind == "random" else kind.replace("_", " ")
            yield Subject(name, {"image": name, "corruption": words, "kept": share}, load, grid, words)

    def _report(self, outcomes: Sequence[Outcome]) -> Report:
        rows = [outcome.row for outcome in outcomes]
        tables = {
            "PSNR over the unknown pixels alone (dB)": pivot(rows, ["corruption"], "psnr_unknown_db", unit="dB"),
            "Seconds": pivot(rows, ["corruption"], "seconds", unit="s"),
        }
        facts = {"noise": self.noise, "network_seconds": self.seconds, **headline(rows)}
        return Report(pivot(rows, ["corruption"], "psnr_db", unit="dB"), facts, tables, self._curves(rows))

    def _curves(self, rows: Sequence[Row]) -> dict[str, Curves]:
        drawn = [row for row in rows if row["corruption"].endswith("of pixels") and row["method"] != "corrupted"]
        if len(self.kept) < 2 or not drawn:
            return {}
        averaged = means(drawn, ["method", "kept"])
        series = series_of(averaged, "kept", "psnr_db", scale=100.0)
        return {"known": Curves(series, "known pixels (%)", "PSNR (dB)", "PSNR against the share of known pixels")}


def headline(rows: Sequence[Row]) -> dict[str, float]:
    """How far the dictionary is above biharmonic, and how good it is without the mask, by corruption (dB)."""
    found = {(row["corruption"], row["method"]): row.get("psnr_db") for row in means(rows, ["corruption", "method"])}
    shown: dict[str, float] = {}
    for (words, method), value in found.items():
        kind = words.replace("% of pixels", "_percent").replace(" ", "_")
        other = found.get((words, "biharmonic"))
        if value is not None and method == BLIND:
            shown[f"db_unknown_{kind}"] = round(value, 2)
        elif value is not None and other is not None and method == "NID":
            shown[f"db_over_biharmonic_{kind}"] = round(value - other, 2)
    return shown


def figures(
    perceptual: Perceptual | None, picture: ImageArray, corrupted: Corrupted, image: ImageArray | None
) -> dict[str, float | None]:
    """How close a picture is to the clean image, if there is one, everywhere and where its pixels were not known."""
    if image is None:
        return dict.fromkeys(("psnr_db", "psnr_unknown_db", "ssim", "lpips"))
    lost = ~corrupted.known
    return {
        "psnr_db": psnr(picture, image),
        "psnr_unknown_db": psnr(picture[lost], image[lost]) if lost.any() else None,
        "ssim": ssim(picture, image),
        "lpips": None if perceptual is None else perceptual(picture, image),
    }


def _able(name: str) -> Any:
    # Where most pixels are lost, what is wrong is not sparse, and cannot be found.
    return lambda subject: name != BLIND or not subject.facts["corruption"].endswith("of pixels")


def first(subject: Subject, corrupted: Corrupted, image: ImageArray | None) -> Cells:
    """The clean image, if there is one, and the corrupted."""
    if image is None:
        return {subject.label: {"corrupted": (corrupted.image, "")}}
    caption = f"{psnr(corrupted.image, image):.2f} dB"
    return {subject.label: {"clean": (image, ""), "corrupted": (corrupted.image, caption)}}
