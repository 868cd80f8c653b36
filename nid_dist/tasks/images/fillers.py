"""Ways to fill the unknown pixels of a corrupted image, all of them given the same pixels, which stay as they are."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool

from nid_dist.baselines.inr import Baseline
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.model import Model
from nid_dist.tasks.comparison import Reconstruction
from nid_dist.tasks.images.biharmonic import biharmonic
from nid_dist.tasks.images.corruptions import Corrupted
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.inpainting import inpaint

Filler = Callable[[Corrupted, float | None], Reconstruction]


def leave(corrupted: Corrupted, _: float | None) -> Reconstruction:
    """The corrupted image itself."""
    return Reconstruction(lambda: corrupted.image, {"seconds": None})


def dictionary_filler(model: Model, noise: float, *, blind: bool = False) -> Filler:
    """The dictionary: the mask known, or, when `blind`, found by a robust fit."""
    return filler(lambda image, known: inpaint(model, image, None if blind else known, noise=noise).filled())


def network_filler(baseline: Baseline, steps: int | None = None, seconds: float | None = None) -> Filler:
    """A network fitted to the known pixels."""

    def fill(image: ImageArray, known: Bool[np.ndarray, "H W"]) -> ImageArray:
        coords, values = coordinate_grid(image.shape[:2]), torch.from_numpy(image).flatten(0, 1)
        weights = torch.from_numpy(known.astype(np.float32)).flatten()
        fitted = baseline.fit(coords, values, weights=weights, steps=steps, max_seconds=seconds)
        picture: ImageArray = fitted.render(coords).clamp(0, 1).reshape(image.shape).numpy()
        return kept(picture, image, known)

    return filler(fill)


def classical_filler() -> Filler:
    """Biharmonic inpainting (Damelin and Hoang 2018), scikit-image's."""
    return filler(lambda image, known: kept(biharmonic(image, known), image, known))


def filler(fill: Callable[[ImageArray, Bool[np.ndarray, "H W"]], ImageArray]) -> Filler:
    """What makes an image of a corrupted one and of which pixels are known."""

    def fit(corrupted: Corrupted, _: float | None) -> Reconstruction:
        picture = fill(corrupted.image, corrupted.known)
        return Reconstruction(lambda: picture)

    return fit


def kept(picture: ImageArray, image: ImageArray, known: Bool[np.ndarray, "H W"]) -> ImageArray:
    """The pixels that a method knows stay as they are."""
    result: ImageArray = np.where(known[..., None], image, picture).astype(np.float32)
    return result
