"""Object File Format of Geomview, with colours, normals, texture or a fourth coordinate (COFF, NOFF, STOFF, 4OFF)."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from nid_dist.tasks.shapes.formats.polygons import triangulate

_KEYWORD = re.compile(r"(ST)?C?N?(4)?(n)?OFF$")


def read_off(path: Path) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Places and triangles; what stands behind a place or a face's corners is passed over.

    Raises:
        ValueError: by line, for numbers that are none or not as many as said, and corners that are not there.
    """
    text = path.read_bytes().decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")
    numbered = [(number, line.partition("#")[0].split()) for number, line in enumerate(text.split("\n"), 1)]
    rows = [(number, words) for number, words in numbered if words]
    if not rows:
        raise ValueError("an empty file")
    keyword = _KEYWORD.match(rows[0][1][0])
    if keyword:
        rows[0] = (rows[0][0], rows[0][1][1:])
        if rows[0][1][:1] == ["BINARY"]:
            raise ValueError("a binary OFF file; only text is read")
        rows = rows if rows[0][1] else rows[1:]
    fourth = bool(keyword and keyword[2])
    if keyword and keyword[3]:
        dimensions = int(rows[0][1].pop(0))
        if dimensions != 3:
            raise ValueError(f"places in {dimensions} dimensions")
        rows = rows if rows[0][1] else rows[1:]
    try:
        places, faces = (int(word) for word in rows[0][1][:2])
    except (IndexError, ValueError):
        raise ValueError("no count of places and faces behind the keyword OFF") from None
    if min(places, faces) < 0 or len(rows) - 1 != places + faces:
        raise ValueError(f"{len(rows) - 1} lines for {places} places and {faces} faces")
    width = 4 if fourth else 3
    vertices = np.array([_numbers(*row, width) for row in rows[1 : places + 1]], np.float64).reshape(-1, width)
    if fourth:
        vertices = vertices[:, :3] / vertices[:, 3:]
    counts = [int(_numbers(number, words, 1)[0]) for number, words in rows[places + 1 :]]
    corners = [
        int(each)
        for (number, words), count in zip(rows[places + 1 :], counts, strict=True)
        for each in _numbers(number, words[1:], count)
    ]
    return vertices, triangulate(vertices, corners, counts)


def _numbers(number: int, words: list[str], count: int) -> list[float]:
    """The first numbers of a line."""
    try:
        found = [float(word) for word in words[:count]]
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None
    if count < 0 or len(found) < count:
        raise ValueError(f"line {number}: {len(found)} of {count} numbers")
    return found
