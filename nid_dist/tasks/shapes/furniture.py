"""Meshes of procedural furniture in ShapeNet's layout, for tests, and for those who have no ShapeNet."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nid_dist.files import replacing
from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.mesh_writing import write_mesh
from nid_dist.tasks.shapes.shapenet import CATEGORIES, LAYOUTS, Layout
from nid_dist.tasks.shapes.signals import ProceduralShapes
from nid_dist.tasks.shapes.solids import Solid

_ROUND = 24  # corners of a circle
_RINGS = 5  # of a half sphere


def write_furniture(folder: Path, count: int, families: Sequence[str], seed: int, layout: Layout) -> list[str]:
    """Write procedural meshes of the families in turn, and the split file that goes with them.

    Returns:
        Their names, `synset/id`; of every eight, one is for validation and one for test (of fewer, too).

    Raises:
        UserError: when they cannot be written.
    """
    shapes = ProceduralShapes(count, families, seed)
    splits: dict[str, dict[str, dict[str, list[int]]]] = {"train": {}, "val": {}, "test": {}}
    names = []
    for index, name in enumerate(shapes.names):
        synset = CATEGORIES[name.split("-")[0]]
        path = folder / LAYOUTS[layout].replace("SYNSET", synset).replace("ID", name)
        write_mesh(path, solid_mesh(shapes.solid(index)))
        turn = index // len(families) % 8 if count >= 8 * len(families) else index
        split = {0: "val", 1: "test"}.get(turn, "train")
        splits[split].setdefault(synset, {})[name] = []
        names.append(f"{synset}/{name}")
    with replacing(folder / "splits.json") as temporary:
        temporary.write_text(json.dumps(splits, indent=1) + "\n")
    return names


def solid_mesh(solid: Solid) -> Mesh:
    """The closed surfaces of a solid's parts, rods as prisms of 24 sides; where parts overlap, faces lie within."""
    boxes = [_box(centre, half) for centre, half in solid.boxes]
    rods = [
        _rod(ends, float(radius), bool(rounded))
        for ends, radius, rounded in zip(solid.rods, solid.radii, solid.rounded, strict=True)
    ]
    return Mesh.joined([*boxes, *rods])


def _box(centre: np.ndarray, half: np.ndarray) -> Mesh:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [corner for a, b, c, d in quads for corner in ((a, b, c), (a, c, d))]
    return Mesh(centre + half * corners, np.array(faces, dtype=np.int64))


def _rod(ends: np.ndarray, radius: float, rounded: bool) -> Mesh:
    """A surface of revolution about the rod: rings of corners between its two tips."""
    axis = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    across = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    across /= np.linalg.norm(across)
    angle = np.arange(_ROUND) * 2 * np.pi / _ROUND
    circle = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * np.cross(axis, across)
    if rounded:
        tilt = np.linspace(0, np.pi / 2, _RINGS)[1:]
        half = [(end, np.sin(t), np.cos(t)) for end in (0, 1) for t in (tilt if not end else tilt[::-1])]
        rings = [ends[end] + radius * (s * circle + (2 * end - 1) * c * axis) for end, s, c in half]
        tips = [ends[0] - radius * axis, ends[1] + radius * axis]
    else:
        rings, tips = [end + radius * circle for end in ends], list(ends)
    count = len(rings)
    around = np.arange(_ROUND)
    following = (around + 1) % _ROUND
    faces = [np.stack([np.full(_ROUND, 0), 1 + following, 1 + around], 1)]
    for ring in range(count - 1):
        low, high = 1 + ring * _ROUND, 1 + (ring + 1) * _ROUND
        faces += [
            np.stack([low + around, low + following, high + following], 1),
            np.stack([low + around, high + following, high + around], 1),
        ]
    last = 1 + (count - 1) * _ROUND
    faces.append(np.stack([np.full(_ROUND, 1 + count * _ROUND), last + around, last + following], 1))
    return Mesh(np.concatenate([tips[0][None], *rings, tips[1][None]]), np.concatenate(faces).astype(np.int64))
