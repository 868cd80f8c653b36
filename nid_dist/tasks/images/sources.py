"""The images of a source, split for training, validation and test, none of them read yet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import skimage.data

from nid_dist.data.files import existing_folder, split_folder
from nid_dist.data.reading import EXTENSIONS, composited, image_size, read_image
from nid_dist.data.splits import SPLITS, Split, assign_splits
from nid_dist.errors import UserError
from nid_dist.tasks.ct.config import PhantomsSection
from nid_dist.tasks.ct.phantoms import Phantom, named_phantom, phantom_index, phantom_names
from nid_dist.tasks.ct.volumes import neighbouring_slice
from nid_dist.tasks.images.celeba import list_celeba
from nid_dist.tasks.images.config import ImagesSection, PhotosSection

# What scikit-image ships inside its package, so that nothing is downloaded. The order is part of the interface.
EMBEDDED = (
    "chelsea",
    "coffee",
    "rocket",
    "retina",
    "immunohistochemistry",
    "hubble_deep_field",
    "stereo_motorcycle",
    "astronaut",
    "camera",
    "brick",
    "grass",
    "gravel",
    "moon",
    "coins",
)


@dataclass(frozen=True)
class ImageRef:
    """An image that can be read."""

    name: str  # unique in its source; for files the posix path relative to the source's root
    load: Callable[[], np.ndarray]  # reads it, [H, W, d] float32 in [0, 1], unprepared
    size: Callable[[], tuple[int, int]] | None = None  # (H, W) in pixels without decoding, where that is possible
    phantom: Callable[[], Phantom] | None = None  # makes what the image shows, where that is known exactly


def list_images(signals: ImagesSection) -> dict[Split, list[ImageRef]]:
    """List the images of the configured source by split.

    `embedded`: the photographs that scikit-image ships, by name ("astronaut", ...). `folder`: all image files below
    `signals.path`, sorted; split by `signals.val` and `signals.test`, or by top folders train, test (and val) when
    `signals.test` is 0. `celeba`: split by its own partition list. `phantoms`: made from a seed, by name
    ("shepp-logan", "phantom-00000", ...).

    Returns:
        References for "train", "val" and "test", which have no image in common; at most `signals.limit` each.

    Raises:
        UserError: a missing or empty folder, globs without a match, a malformed partition list, missing files, or
            no image left to train on.
    """
    if isinstance(signals, PhantomsSection):
        every = phantom_names(signals.phantoms, standard=signals.slices is None)
        names = assign_splits(every, signals.val, signals.test, where="the phantoms")
        return _references(names, signals.limit, partial(_phantom_reference, signals))
    assert isinstance(signals, PhotosSection)
    if signals.source == "embedded":
        names = assign_splits(EMBEDDED, signals.val, signals.test, where="the embedded photographs")
        return _references(names, signals.limit, partial(_embedded_reference, signals.colour))
    root = existing_folder(signals.path)
    if signals.source == "celeba":
        _refuse_own_splits(signals)
        folder, names = list_celeba(root, signals.limit)
        return _references(names, signals.limit, partial(_file_reference, folder, signals))
    names = split_folder(root, EXTENSIONS, signals.val, signals.test)
    return _references(names, signals.limit, partial(_file_reference, root, signals))


def _refuse_own_splits(signals: ImagesSection) -> None:
    for key, rule in (("val", signals.val), ("test", signals.test)):
        if rule:
            raise UserError(
                f"signals.{key}",
                found=str(rule),
                expected="0.0 with signals.source celeba, which brings its own splits",
                hint=f"remove signals.{key}, or use signals.source folder",
            )


def _references(
    names: dict[Split, list[str]], limit: int | None, refer: Callable[[str], ImageRef]
) -> dict[Split, list[ImageRef]]:
    return {split: [refer(name) for name in _limited(names[split], limit)] for split in SPLITS}


def _limited(names: Sequence[str], limit: int | None) -> Sequence[str]:
    return names if limit is None else names[:limit]


def _file_reference(root: Path, signals: ImagesSection, name: str) -> ImageRef:
    path = root / name
    return ImageRef(name, partial(read_image, path, signals.colour, signals.bits), partial(image_size, path))


def _embedded_reference(colour: Literal["rgb", "grey"], name: str) -> ImageRef:
    return ImageRef(name, partial(_load_embedded, name, colour))


def _phantom_reference(signals: PhantomsSection, name: str) -> ImageRef:
    assert signals.size is not None
    if signals.slices is None:
        phantom = partial(named_phantom, name, signals.phantoms_seed)
    else:
        phantom = partial(neighbouring_slice, phantom_index(name), signals.slices, signals.phantoms_seed)
    return ImageRef(name, partial(_load_phantom, phantom, signals.size, signals.colour), phantom=phantom)


def _load_phantom(phantom: Callable[[], Phantom], size: int, colour: Literal["rgb", "grey"]) -> np.ndarray:
    return composited(phantom().image(size).astype(np.float32)[..., None], colour)


def _load_embedded(name: str, colour: Literal["rgb", "grey"]) -> np.ndarray:
    loaded = getattr(skimage.data, name)()
    samples = np.asarray(loaded[0] if isinstance(loaded, tuple) else loaded)
    values = samples.astype(np.float32) / np.float32(255)
    return composited(values[..., None] if values.ndim == 2 else values, colour)
