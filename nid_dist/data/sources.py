"""The images of a source, split for training, validation and test, none of them read yet."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import skimage.data

from nid_dist.config.schema import Signals
from nid_dist.data.reading import EXTENSIONS, image_size, read_image, to_colour
from nid_dist.data.splits import SPLITS, Split, assign_splits, folder_splits
from nid_dist.errors import UserError
from nid_dist.tasks.ct.phantoms import named_phantom, phantom_names
from nid_dist.tasks.images.celeba import list_celeba

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


def list_images(signals: Signals) -> dict[Split, list[ImageRef]]:
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
    if signals.source == "embedded":
        names = assign_splits(EMBEDDED, signals.val, signals.test, where="the embedded photographs")
        return _references(names, signals.limit, partial(_embedded_reference, signals.colour))
    if signals.source == "phantoms":
        names = assign_splits(phantom_names(signals.phantoms), signals.val, signals.test, where="the phantoms")
        return _references(names, signals.limit, partial(_phantom_reference, signals))
    root = _root(signals.path)
    if signals.source == "celeba":
        _refuse_own_splits(signals)
        folder, names = list_celeba(root, signals.limit)
        return _references(names, signals.limit, partial(_file_reference, folder, signals.colour))
    names = _split_folder(root, signals)
    return _references(names, signals.limit, partial(_file_reference, root, signals.colour))


def find_images(root: Path) -> list[str]:
    """Find the image files below a folder, links followed, hidden files and folders left out.

    Args:
        root: the folder.

    Returns:
        Sorted posix paths relative to the folder.

    Raises:
        UserError: a folder in it cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise UserError(
            str(error.filename),
            found=f"a folder that cannot be listed ({error.strerror})",
            expected="a readable folder",
            hint="grant access to it or move it away",
        )

    names: list[str] = []
    visited: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        images = (name for name in files if Path(name).suffix.lower() in EXTENSIONS and not name.startswith("."))
        names += (Path(folder, name).relative_to(root).as_posix() for name in images)
    return sorted(names)


def named_files(inputs: Sequence[Path]) -> list[tuple[str, Path]]:
    """The image files that a user names, one by one or by folder.

    Args:
        inputs: of `--input`.

    Returns:
        A name that no other has, and the path, of each.

    Raises:
        UserError: for a path that is neither, and for a folder without images.
    """
    found: list[tuple[str, Path]] = []
    for path in inputs:
        if path.is_dir():
            names = find_images(path)
            if not names:
                endings = ", ".join(sorted(EXTENSIONS))
                raise UserError(
                    str(path), found="no image", expected=f"files ending in {endings}", hint="check --input"
                )
            found += [(name, path / name) for name in names]
        elif path.is_file():
            found.append((path.name, path))
        else:
            raise UserError(str(path), found="nothing", expected="an image or a folder", hint="check the path")
    times = Counter(name for name, _ in found)
    return [(name if times[name] == 1 else f"{index}-{name}", path) for index, (name, path) in enumerate(found)]


def _split_folder(root: Path, signals: Signals) -> dict[Split, list[str]]:
    names = find_images(root)
    if not names:
        raise UserError(
            str(root),
            found="no image",
            expected=f"files ending in {', '.join(sorted(EXTENSIONS))}",
            hint="check signals.path",
        )
    if not signals.test:
        splits = folder_splits(names, signals.val, where=str(root))
        if splits is not None:
            return splits
    return assign_splits(names, signals.val, signals.test, where=str(root))


def _root(path: str | None) -> Path:
    root = Path(path or "").expanduser()
    if not path or not root.is_dir():
        raise UserError(
            f"signals.path {path}",
            found="a file" if path and root.exists() else "no such folder",
            expected="the folder with the images",
            hint="check signals.path",
        )
    return root


def _refuse_own_splits(signals: Signals) -> None:
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


def _file_reference(root: Path, colour: Literal["rgb", "grey"], name: str) -> ImageRef:
    path = root / name
    return ImageRef(name, partial(read_image, path, colour), partial(image_size, path))


def _embedded_reference(colour: Literal["rgb", "grey"], name: str) -> ImageRef:
    return ImageRef(name, partial(_load_embedded, name, colour))


def _phantom_reference(signals: Signals, name: str) -> ImageRef:
    assert signals.size is not None
    return ImageRef(name, partial(_load_phantom, name, signals.phantoms_seed, signals.size, signals.colour))


def _load_phantom(name: str, seed: int, size: int, colour: Literal["rgb", "grey"]) -> np.ndarray:
    return to_colour(named_phantom(name, seed).image(size).astype(np.float32)[..., None], colour)


def _load_embedded(name: str, colour: Literal["rgb", "grey"]) -> np.ndarray:
    loaded = getattr(skimage.data, name)()
    samples = np.asarray(loaded[0] if isinstance(loaded, tuple) else loaded)
    values = samples.astype(np.float32) / np.float32(255)
    return to_colour(values[..., None] if values.ndim == 2 else values, colour)
