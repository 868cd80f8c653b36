"""Pictures of meshes without OpenGL and without a display: shaded points of the surface in a depth buffer."""

import numpy as np
from jaxtyping import Float, Float32

from nid_dist.tasks.shapes.mesh import Mesh

VIEWS = ((35.0, 20.0), (215.0, 20.0))
"""Azimuth and elevation, in degrees, of the two sides that are shown."""
_PER_PIXEL = 12  # points drawn for each pixel of the picture
_LIGHT = np.array([0.35, 0.85, 0.55]) / np.linalg.norm([0.35, 0.85, 0.55])
_REACH = 1.5  # half the width of what is seen, in box units


def render_mesh(
    mesh: Mesh | None,
    azimuth: float,
    elevation: float,
    side: int = 256,
    colour: tuple[float, float, float] = (0.55,) * 3,
) -> Float32[np.ndarray, "side side 3"]:
    """Draw a mesh in the cube, seen from far away, its second axis upwards: a picture in [0, 1], empty without a mesh.

    `azimuth`, about the second axis, and `elevation` of the eye are in degrees.
    """
    picture = np.ones((side, side, 3), np.float32)
    if mesh is None or not len(mesh.faces):
        return picture
    points, face = mesh.sample(_PER_PIXEL * side * side // 2, np.random.default_rng(0))
    right, up, towards = _axes(azimuth, elevation)
    columns = ((points @ right) / _REACH + 1) / 2 * side
    rows = (1 - (points @ up) / _REACH) / 2 * side
    place, seen = _pixels(rows, columns, side)
    depth = (points @ towards)[seen]
    nearest = np.full(side * side, -np.inf)
    np.maximum.at(nearest, place, depth)
    # All points next to the nearest one of a pixel count: their mean is smooth.
    front = depth > nearest[place] - 3 * _REACH / side
    light = _shade(mesh.normals[face[seen]], towards)[front]
    total, count = np.bincount(place[front], light, side * side), np.bincount(place[front], minlength=side * side)
    drawn = count > 0
    shade = total[drawn] / count[drawn]
    picture.reshape(-1, 3)[drawn] = np.clip(shade[:, None] * np.asarray(colour), 0, 1)
    return picture


def render_points(
    points: Float[np.ndarray, "P 3"], azimuth: float, elevation: float, side: int = 256
) -> Float32[np.ndarray, "side side 3"]:
    """Draw a cloud as dots, seen as `render_mesh` sees."""
    picture = np.ones((side, side, 3), np.float32)
    right, up, towards = _axes(azimuth, elevation)
    order = np.argsort(points @ towards)
    columns, rows = ((points @ right) / _REACH + 1) / 2 * side, (1 - (points @ up) / _REACH) / 2 * side
    depth = (points @ towards + _REACH) / (2 * _REACH)
    radius = max(1, side // 128)
    for index in order:
        row, column = int(rows[index]), int(columns[index])
        spot = (slice(max(0, row - radius), row + radius), slice(max(0, column - radius), column + radius))
        picture[spot] = (0.1, 0.25, 0.3 + 0.5 * float(np.clip(depth[index], 0, 1)))
    return picture


def two_sides(mesh: Mesh | None, side: int = 256) -> Float32[np.ndarray, "H W 3"]:
    """A mesh from two sides, beside each other."""
    return np.concatenate([render_mesh(mesh, *view, side) for view in VIEWS], 1)


def _axes(azimuth: float, elevation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """To the right, upwards and towards the eye."""
    turn, lift = np.radians(azimuth), np.radians(elevation)
    towards = np.array([np.sin(turn) * np.cos(lift), np.sin(lift), np.cos(turn) * np.cos(lift)])
    right = np.array([np.cos(turn), 0.0, -np.sin(turn)])
    return right, np.cross(towards, right), towards


def _pixels(rows: np.ndarray, columns: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixel of each point that is seen, and which are."""
    row, column = rows.astype(int), columns.astype(int)
    seen = np.flatnonzero((row >= 0) & (row < side) & (column >= 0) & (column < side))
    return row[seen] * side + column[seen], seen


def _shade(normals: Float[np.ndarray, "P 3"], towards: np.ndarray) -> Float[np.ndarray, "P"]:
    # Faces of meshes that are not closed may look away: they are lit from the side that is seen.
    facing = normals * np.where((normals @ towards) < 0, -1.0, 1.0)[:, None]
    lit = 0.55 + 0.75 * np.clip(facing @ _LIGHT, 0, None) + 0.25 * (facing @ towards)
    shade: np.ndarray = lit
    return shade
