"""More resolution: a dictionary beside resampling, on images whose pixels are means of finer ones that are known."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from pydantic import Field

from nid_dist.config.section import PositiveInt
from nid_dist.evaluation.lpips import load_lpips
from nid_dist.evaluation.report import pivot
from nid_dist.measurements.area import area_means
from nid_dist.tasks.comparison import (
    Cells,
    ComparedMethod,
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
from nid_dist.tasks.images.comparison import figures, show
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.photographs import PhotographComparison, photographs
from nid_dist.tasks.images.preparation import prepare
from nid_dist.tasks.images.super_resolution import super_resolve

KERNELS = {"bicubic": Image.Resampling.BICUBIC, "Lanczos": Image.Resampling.LANCZOS}


Coarse = Float32[np.ndarray, "h w d"]
"""An image each of whose pixels is the mean of some finer ones."""


class ResolutionComparison(PhotographComparison):
    """Super-resolution."""

    task: Literal["resolution"] = "resolution"
    sides: list[PositiveInt] = Field([128], min_length=1, description="of the fine squares that images are resized to")
    factor: PositiveInt = Field(2, description="fine pixels along the side of a coarse one; it divides the sides")
    dictionary: Trained

    def specify(self, request: Request) -> Specification:
        """Say what is compared."""
        model, training = request.dictionary(self.dictionary)
        methods = [_method("NID", lambda coarse: super_resolve(model, coarse, float(self.factor)).render())]
        methods += [
            _method(name, partial(resampled, factor=self.factor, kernel=kernel)) for name, kernel in KERNELS.items()
        ]
        images, failed = photographs(request, training, self.limit)
        trials = [Trial(list(self._subjects(images, side)), lambda: methods) for side in self.sides]
        return Specification(trials, partial(figures, load_lpips(self.lpips)), _first, show, _report, failed=failed)

    def _subjects(self, images: Sequence[tuple[str, ImageArray]], side: int) -> Iterator[Subject]:
        words = f"{side // self.factor} to {side}"
        grid = Grid(f"grid-{side}", f"{words} pixels a side, held out", "truth, coarse pixels and every method")
        for name, whole in images:

            def load(name: str = name, whole: ImageArray = whole) -> tuple[Coarse, ImageArray]:
                fine = prepare(whole, size=side // self.factor * self.factor, name=name)
                return area_means(torch.from_numpy(fine), self.factor).numpy(), fine

            yield Subject(name, {"image": name, "pixels": words}, load, grid, Path(name).stem)


def _method(name: str, enlarge: Callable[[Coarse], ImageArray]) -> ComparedMethod:
    def fit(coarse: Coarse, _: float | None) -> Reconstruction:
        found = enlarge(coarse)
        return Reconstruction(lambda: found)

    return ComparedMethod(name, fit)


def resampled(image: Coarse, *, factor: int, kernel: Image.Resampling) -> ImageArray:
    """An image of `factor` times as many pixels along each side, by a kernel of Pillow, clipped to [0, 1]."""
    height, width, channels = image.shape
    size = (factor * width, factor * height)
    planes = [Image.fromarray(image[..., channel], mode="F").resize(size, kernel) for channel in range(channels)]
    found: ImageArray = np.stack([np.asarray(plane) for plane in planes], 2).clip(0, 1)
    return found


def _first(subject: Subject, coarse: Coarse, fine: ImageArray) -> Cells:
    factor = len(fine) // len(coarse)
    blocks = coarse.repeat(factor, 0).repeat(factor, 1)
    return {subject.label: {"truth": (fine, ""), "coarse pixels": (blocks, "")}}


def _report(outcomes: Sequence[Outcome]) -> Report:
    rows: list[Any] = [outcome.row for outcome in outcomes]
    tables = {name: pivot(rows, ["pixels", "image"], key, form=form) for name, key, form in _TABLES}
    return Report(pivot(rows, ["pixels", "image"], "psnr_db", unit="dB"), {}, tables)


_TABLES = (("SSIM", "ssim", ".4f"), ("LPIPS", "lpips", ".3f"), ("seconds", "seconds", ".3f"))
