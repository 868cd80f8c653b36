"""Images of a folder as frames of one clip: their order, and their times where numbers in their names say them."""

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float64

from nid_dist.errors import UserError, doubt

RATE = 25.0
"""Frames per second of a folder, whose frames have no times."""

_NUMBER = re.compile(r"[0-9]+")
_SAME = {".jpeg": ".jpg", ".tiff": ".tif"}
_SHOWN = 8  # numbers that are not there


def in_order(names: Sequence[str]) -> list[str]:
    """Sorted with the numbers in them read as numbers: frame_10 comes after frame_9."""
    return sorted(names, key=_natural)


def require_one_clip(root: Path, names: Sequence[str]) -> None:
    """Refuse a folder of several kinds of image, such as frames and their masks.

    A kind is what names have in common beside their numbers: folder, words and ending.

    Raises:
        UserError: when more than one has several images.

    Warns:
        DoubtfulMeaning: of single ones of other kinds.
    """
    kinds = Counter(_kind(name) for name in names)
    if len(kinds) < 2:
        return
    words = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(4))
    several = [kind for kind, count in kinds.items() if count > 1]
    if len(several) > 1:
        raise UserError(
            f"signals.path {root}",
            found=f"{len(kinds)} kinds of images: {words}{', ...' if len(kinds) > 4 else ''}",
            expected="the frames of one clip",
            hint="name the folder of one of them, or move the others away",
        )
    doubt(
        str(root),
        found=f"{len(kinds)} kinds of images: {words}{', ...' if len(kinds) > 4 else ''}",
        taken_as="the frames of one clip",
        hint="move those away that are none",
    )


def times_of(root: Path, names: Sequence[str]) -> Float64[np.ndarray, "T"]:
    """When the frames of a folder were taken, in seconds, at `RATE`: by their numbers where these count upwards.

    Warns:
        DoubtfulMeaning: when numbers are left out.
    """
    even = np.arange(len(names)) / RATE
    columns = _varying(names)
    _doubt_several_series(root, columns)
    if len(columns) != 1:
        return even
    numbers = np.array(columns[0], np.int64)
    steps = np.diff(numbers)
    usual = statistics.median_low(steps.tolist())
    if (steps == usual).all() or (steps <= 0).any():
        return even
    times: Float64[np.ndarray, "T"] = (numbers - numbers[0]) / (usual * RATE)
    missing = [
        str(number)
        for first, step in zip(numbers[:-1].tolist(), steps.tolist(), strict=True)
        for number in range(first + usual, first + step - usual // 2, usual)[: _SHOWN + 1]
    ]
    if not missing:
        return times  # moments, such as milliseconds
    shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    doubt(
        str(root),
        found=f"frames from number {numbers[0]} to {numbers[-1]} without {shown}",
        taken_as="gaps in time, as long as their numbers say",
        hint="number the frames without gaps if they follow each other evenly",
    )
    return times


def _varying(names: Sequence[str]) -> list[list[int]]:
    """The numbers in the names that differ from frame to frame, by their place in the names; none of too few frames."""
    found = [_NUMBER.findall(PurePosixPath(name).with_suffix("").as_posix()) for name in names]
    if len(names) < 3 or len({len(each) for each in found}) != 1:
        return []
    columns = [[int(number) for number in column] for column in zip(*found, strict=True)]
    return [column for column in columns if len(set(column)) > 1 and max(column) < 2**53]


def _doubt_several_series(root: Path, columns: Sequence[Sequence[int]]) -> None:
    """Such as those of two cameras, whose frames have the same numbers."""
    if len(columns) != 2:
        return
    series: dict[int, list[int]] = {}
    for name, number in zip(*columns, strict=True):
        series.setdefault(name, []).append(number)
    numbers = next(iter(series.values()))
    if len(numbers) > 1 and all(each == numbers for each in series.values()):
        doubt(
            str(root),
            found=f"{len(series)} series of frames, each numbered from {numbers[0]} to {numbers[-1]}",
            taken_as="one clip, one series after the other",
            hint="name the folder of one of them, or move the others away",
        )


def _kind(name: str) -> str:
    path = PurePosixPath(name)
    ending = _SAME.get(path.suffix.lower(), path.suffix.lower())
    folder = _NUMBER.sub("#", path.parent.as_posix())
    # Names without numbers are words for single frames.
    stem = _NUMBER.sub("#", path.stem) if _NUMBER.search(path.stem) else "*"
    return f"{'' if folder == '.' else folder + '/'}{stem}{ending}"


def _natural(name: str) -> list[tuple[int, str]]:
    words, number = [], ""
    for letter in name + "\0":
        if letter.isascii() and letter.isdigit():
            number += letter
            continue
        if number:
            words.append((int(number), ""))
            number = ""
        words.append((-1, letter))
    return words
