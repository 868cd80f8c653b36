"""STL, as text (solids one after the other) or binary, whatever its first word says."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEAD = 84  # bytes: of text, of which nothing is meant, and the number of triangles


def read_stl(path: Path) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Three places for each triangle; the normals that the file says are passed over.

    Raises:
        ValueError: for a file that ends too early or too late, and, by line, for what is no triangle.
    """
    data = path.read_bytes()
    count = int.from_bytes(data[_HEAD - 4 : _HEAD], "little")
    if len(data) == _HEAD + count * _TRIANGLE.itemsize and len(data) >= _HEAD:
        places = np.frombuffer(data, _TRIANGLE, count, _HEAD)["corners"].astype(np.float64).reshape(-1, 3)
    elif data[:512].lstrip().lower().startswith(b"solid") and b"\0" not in data:
        places = _text(data)
    elif len(data) < _HEAD:
        raise ValueError(f"{len(data)} bytes, fewer than its head has")
    else:
        raise ValueError(f"{len(data) - _HEAD} bytes for {count} triangles of {_TRIANGLE.itemsize}")
    return places, np.arange(len(places)).reshape(-1, 3)


def _text(data: bytes) -> Float[np.ndarray, "V 3"]:
    places: list[list[float]] = []
    corners = 0  # of the triangle that is read
    within = False  # a solid
    lines = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        words = line.lower().split()
        if not words:
            continue
        if words[0] in ("solid", "endsolid"):
            within = words[0] == "solid"
        elif words[0] == "vertex":
            try:
                x, y, z = (float(word) for word in words[1:])
            except ValueError:
                raise ValueError(f"line {number}: {line.strip()[:60]!r}: no three numbers") from None
            places.append([x, y, z])
            corners += 1
        elif words[0] == "facet":
            corners = 0
        elif words[0] == "endfacet" and corners != 3:
            raise ValueError(f"line {number}: a triangle with {corners} corners")
    if within or len(places) % 3:
        raise ValueError("an end within a solid")
    return np.array(places, np.float64).reshape(-1, 3)
