"""PreparedDictionary shapes on disk: a safetensors file for each, written whole or not at all, and an index of all.

A file holds `near` [N, 3], points near the surface, and `uniform` [U, 3], points of the whole cube, each in random
order, with `near_distances`, `near_gradients` and so on; `surface` [S, 3] and `normals` [S, 3]; `vertices` and `faces`
of what bounds the shape; and, where it was asked for, `grid` [G, G, G], distances at cell centres. So a random part of
a shape is a slice of a file, and a training reads only what a step needs, however many shapes there are.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nid_dist.data.splits import Split
from nid_dist.errors import UserError
from nid_dist.files import replacing, require_inside, write_json
from nid_dist.tasks.shapes.mesh import Mesh, Placement

INDEX = "index.json"
FORMAT = 1
_ENDING = ".safetensors"

Points = Float[np.ndarray, "P 3"]
Distances = Float[np.ndarray, "P"]


def shape_file(folder: Path, name: str) -> Path:
    """Where a shape's samples lie."""
    return folder / f"{name}{_ENDING}"


def write_shape(folder: Path, name: str, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> str:
    """Write a shape's file, atomically, with facts (JSON) in its header: the file's SHA-256.

    Raises:
        UserError: when it cannot be written; nothing is left of it then.
    """
    data = save(dict(tensors), {"facts": json.dumps(facts, sort_keys=True)})
    with replacing(shape_file(folder, name)) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_facts(folder: Path, name: str) -> dict[str, Any] | None:
    """What a shape's file says of itself; None where there is none that is whole."""
    try:
        with safe_open(shape_file(folder, name), "numpy") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
            return facts
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
        return None


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_index(
    folder: Path, settings: Mapping[str, Any], shapes: Mapping[str, Any], refused: Mapping[str, str]
) -> None:
    """Write the index: every shape with its facts, checksum and split, and what was left out, with the reason."""
    write_json(folder / INDEX, {"format": FORMAT, "settings": settings, "shapes": shapes, "refused": refused})


def read_index(folder: Path) -> dict[str, Any]:
    """Read the index of prepared shapes: its `settings`, `shapes` and `refused`.

    Raises:
        UserError: where there is none.
    """
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] == FORMAT and isinstance(index["shapes"], dict):
            return dict(index)
        found = f"format {index['format']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        found = "no index of prepared shapes" if isinstance(error, OSError) else f"a damaged index ({error})"
    raise UserError(str(path), found=found, expected="prepared shapes", hint="prepare the shapes (again)")


class PreparedShapes:
    """Shapes from a folder of prepared ones, read as they are needed.

    Raises:
        UserError: without an index, with an empty one, or when a file that it names is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, dict[str, Any]] = read_index(folder)["shapes"]
        self.names: Sequence[str] = list(self.facts)
        require_inside(folder / INDEX, self.names)
        missing = [name for name in self.names if not shape_file(folder, name).is_file()]
        if missing or not self.names:
            raise UserError(
                str(folder / INDEX),
                found=f"{missing[0]!r} ({len(missing)} in all), without its file" if missing else "no shape",
                expected="a file for each shape of the index",
                hint="prepare the shapes again",
            )

    def split(self, index: int) -> Split | None:
        """The split that a shape was prepared for; None: none was said."""
        split: Split | None = self.facts[self.names[index]].get("split")
        return split

    def placement(self, index: int) -> Placement:
        """Where a shape's cube lies in the units of its mesh."""
        facts = self.facts[self.names[index]]
        x, y, z = facts["centre"]
        return Placement((x, y, z), facts["scale"])

    def sample(self, index: int, count: int, near: float, generator: np.random.Generator) -> tuple[Points, Distances]:
        """Draw points with their distances (see `ShapeSource`)."""
        points, distances, _ = self.sample_with_gradients(index, count, near, generator)
        return points, distances

    def sample_with_gradients(
        self, index: int, count: int, near: float, generator: np.random.Generator
    ) -> tuple[Points, Distances, Points]:
        """Draw points with their distances, and the unit vectors along which these grow."""
        close = round(near * count)
        starts = {kind: int(generator.integers(2**31)) for kind in ("near", "uniform")}
        return self.samples(index, {"near": close, "uniform": count - close}, starts)

    def samples(
        self, index: int, counts: Mapping[str, int], starts: Mapping[str, int]
    ) -> tuple[Points, Distances, Points]:
        """Points `near` the surface, then those `uniform` in the cube, from places on, with distances and gradients."""
        with self._open(index) as file:
            parts = [
                [_part(file, f"{kind}{of}", counts[kind], starts[kind]) for of in ("", "_distances", "_gradients")]
                for kind in ("near", "uniform")
            ]
        points, distances, gradients = (np.concatenate(pair) for pair in zip(*parts, strict=True))
        return points, distances, gradients

    def surface(self, index: int, count: int | None, generator: np.random.Generator) -> tuple[Points, Points]:
        """Points drawn from a shape's surface (None: all that were prepared), with the normals that point out of it."""
        return self.surface_from(index, count, int(generator.integers(2**31)))

    def surface_from(self, index: int, count: int | None, start: int) -> tuple[Points, Points]:
        """Points of a shape's surface from a place on (None: all), with the normals that point out of it."""
        with self._open(index) as file:
            if count is None:
                count = file.get_slice("surface").get_shape()[0]
            return _part(file, "surface", count, start), _part(file, "normals", count, start)

    def length(self, index: int, kind: str) -> int:
        """How many samples of a kind a shape has: `near`, `uniform` or `surface`."""
        with self._open(index) as file:
            length: int = file.get_slice(kind).get_shape()[0]
        return length

    def columns(self, index: int, names: Sequence[str]) -> Float32[np.ndarray, "N c"]:
        """All samples of a shape, the named tensors side by side."""
        with self._open(index) as file:
            parts = [file.get_tensor(name).astype(np.float32) for name in names]
        return np.concatenate([part[:, None] if part.ndim == 1 else part for part in parts], 1)

    def mesh(self, index: int) -> Mesh:
        """The faces that bound a shape, in the cube."""
        with self._open(index) as file:
            vertices, faces = file.get_tensor("vertices"), file.get_tensor("faces")
        return Mesh(vertices.astype(np.float64), faces.astype(np.int64))

    def distance(self, index: int, points: Points) -> Distances:
        """Distances at given points: interpolated in the grid.

        Raises:
            UserError: where the shapes were prepared without grids.
        """
        from scipy.ndimage import map_coordinates

        with self._open(index) as file:
            if "grid" not in set(file.keys()):
                raise UserError(
                    str(self.folder),
                    found="shapes without a grid of distances",
                    expected="one, for initial values, pictures and grids",
                    hint="prepare the shapes again with a grid of 32, or set dictionary.init to random",
                )
            grid = file.get_tensor("grid").astype(np.float32)
        places = (points.T + 1) / 2 * len(grid) - 0.5
        found: Distances = map_coordinates(grid, places, order=1, mode="nearest")
        return found

    def _open(self, index: int) -> Any:
        path = shape_file(self.folder, self.names[index])
        try:
            return safe_open(path, "numpy")
        except (OSError, SafetensorError) as error:
            raise UserError(
                str(path), found=f"a damaged file ({error})", expected="prepared samples", hint="prepare it again"
            ) from error


def _part(file: Any, name: str, count: int, start: int) -> np.ndarray:
    """`count` rows from a place on, round the end: the rows are in random order."""
    rows = file.get_slice(name)
    total = rows.get_shape()[0]
    first, parts = int(start % total), []
    while count > 0:
        last = min(first + count, total)
        parts.append(rows[first:last])
        count, first = count - (last - first), 0
    return np.concatenate(parts).astype(np.float32) if parts else rows[0:0].astype(np.float32)
