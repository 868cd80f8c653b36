"""Wavefront OBJ: places and faces; texture, normals, groups and materials are passed over."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from nid_dist.tasks.shapes.formats.cut import doubt_cut
from nid_dist.tasks.shapes.formats.polygons import triangulate

_CURVED = ("surf", "curv", "curv2")  # free forms, which have no faces
_PASSED = ("vn ", "vt ", "#")  # most lines that are passed over begin so


def read_obj(path: Path) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Places and triangles; a negative corner counts back from the last place before its face.

    Raises:
        ValueError: by line, for numbers that are none, corners that are not there, and free forms.

    Warns:
        DoubtfulMeaning: of a last line that was cut.
    """
    places: list[list[float]] = []
    corners: list[int] = []
    counts: list[int] = []
    text = path.read_bytes().decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")
    doubt_cut(path, text)
    for number, words in _lines(text):
        try:
            if words[0] == "v":
                x, y, z = words[1:4]
                places.append([float(x), float(y), float(z)])
            elif words[0] in ("f", "fo"):
                face = [int(word.partition("/")[0]) for word in words[1:]]
                corners += [each - 1 if each > 0 else _back(each, len(places)) for each in face]
                counts.append(len(face))
            elif words[0] in _CURVED:
                raise ValueError("a free-form curve or surface, which has no faces")
        except ValueError as error:
            raise ValueError(f"line {number}: {' '.join(words)[:60]!r}: {error}") from None
    vertices = np.array(places, dtype=np.float64).reshape(-1, 3)
    return vertices, triangulate(vertices, corners, counts)


def _back(index: int, count: int) -> int:
    if not 0 < -index <= count:
        raise ValueError(f"corner {index} after {count} places")
    return count + index


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The words of lines that may matter, without comments; a backslash joins the next line to it."""
    joined: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not joined and line.startswith(_PASSED) and "\\" not in line:
            continue
        words = line.partition("#")[0].split()
        if words and words[-1].endswith("\\"):
            joined += [*words[:-1], words[-1][:-1]]
        elif words or joined:
            words, joined = [word for word in (*joined, *words) if word], []
            if words:
                yield number, words
