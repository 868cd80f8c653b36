"""Ways to fill the unknown pixels of an image, all of them given the same pixels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Bool

from nid_dist.baselines.inr import Baseline
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.model import Model
from nid_dist.tasks.images.biharmonic import biharmonic
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.inpainting import inpaint

Filler = Callable[[ImageArray, Bool[np.ndarray, "H W"]], ImageArray]
"""Makes an image of a corrupted one and of which pixels are known."""


@dataclass(frozen=True)
class Filled:
    """What one of them made of an image.

    Args:
        picture: in [0, 1].
        seconds: that it took.
    """

    picture: ImageArray
    seconds: float


def dictionary_filler(model: Model, noise: float, *, blind: bool = False) -> Filler:
    """The dictionary: the mask known, or, when `blind`, found by a robust fit."""

    def fill(image: ImageArray, known: Bool[np.ndarray, "H W"]) -> ImageArray:
        return inpaint(model, image, None if blind else known, noise=noise).filled()

    return fill


def network_filler(baseline: Baseline, steps: int | None = None, seconds: float | None = None) -> Filler:
    """A network fitted to the known pixels."""

    def fill(image: ImageArray, known: Bool[np.ndarray, "H W"]) -> ImageArray:
        height, width, channels = image.shape
        coords, values = coordinate_grid((height, width)), torch.from_numpy(image).reshape(-1, channels)
        weights = torch.from_numpy(known.astype(np.float32)).flatten()
        fitted = baseline.fit(coords, values, weights=weights, steps=steps, max_seconds=seconds)
        picture: ImageArray = fitted.render(coords).clamp(0, 1).reshape(image.shape).numpy()
        return kept(picture, image, known)

    return fill


def classical_filler(image: ImageArray, known: Bool[np.ndarray, "H W"]) -> ImageArray:
    """Biharmonic inpainting (Damelin and Hoang 2018), scikit-image's."""
    return kept(biharmonic(image, known), image, known)


def fill_all(fillers: Mapping[str, Filler], image: ImageArray, known: Bool[np.ndarray, "H W"]) -> dict[str, Filled]:
    """Let each of them fill an image.

    Args:
        fillers: by name.
        image: corrupted.
        known: its pixels that are known.

    Returns:
        Pictures and seconds by name.
    """
    results = {}
    for name, fill in fillers.items():
        begin = perf_counter()
        picture = fill(image, known)
        results[name] = Filled(picture, perf_counter() - begin)
    return results


def kept(picture: ImageArray, image: ImageArray, known: Bool[np.ndarray, "H W"]) -> ImageArray:
    """The pixels that a method knows stay as they are."""
    result: ImageArray = np.where(known[..., None], image, picture).astype(np.float32)
    return result
