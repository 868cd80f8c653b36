"""`simple`, resolution: twice the resolution of images that are means of 2 x 2 pixels, against resampling."""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image

from nid_dist.benchmarks.simple.dictionaries import dictionary, held_out
from nid_dist.benchmarks.simple.line import Line
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.measurements.area import area_means
from nid_dist.model import Model
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.resolution_comparison import Coarse, resampled
from nid_dist.tasks.images.super_resolution import super_resolve

_SIDE = 128
_NAMES = {"faces": "portraits", "photos": "photographs"}


def lines(quick: bool) -> Iterable[Line]:
    """Mean PSNR over held-out images of both kinds, beside bicubic and beside Lanczos resampling."""
    for kind, name in _NAMES.items():
        model = dictionary(kind, quick)

        def ours(coarse: Coarse, model: Model = model) -> ImageArray:
            return super_resolve(model, coarse, 2.0).render()

        images = list(held_out(kind, _SIDE, quick))
        found, seconds = _measure(ours, images)
        for filter_name, kernel in (("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)):
            simple, simple_seconds = _measure(partial(resampled, factor=2, kernel=kernel), images)
            yield Line(
                f"db_x2_{kind}_minus_{filter_name}",
                f"twice the resolution of {name}, {_SIDE // 2} to {_SIDE}",
                "prior of kinds of patches, k = 64",
                found,
                filter_name,
                simple,
                seconds=seconds,
                simple_seconds=simple_seconds,
            )


def _measure(enlarge: Callable[[Coarse], ImageArray], images: Sequence[ImageArray]) -> tuple[float, float]:
    """Mean PSNR, and seconds of one image."""
    decibels, begin = [], time.perf_counter()
    for image in images:
        coarse = area_means(torch.from_numpy(image), 2).numpy()
        decibels.append(psnr(enlarge(coarse), image))
    return float(np.mean(decibels)), (time.perf_counter() - begin) / len(images)
