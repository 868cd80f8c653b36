"""The surface f = 0 as a mesh: marching cubes on a grid that is evaluated from coarse to fine, around the surface.

A coarse cell without a sign change at its corners, whose values are larger than what f can fall within it, holds no
surface: its children get interpolated values, which have the right sign. So evaluations grow with the surface's area,
and not with the volume; memory is one number of four bytes per point of the finest grid, and the points of a chunk.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from skimage.measure import marching_cubes

from nid_dist.tasks.shapes.mesh import Mesh

Field = Callable[[Float[np.ndarray, "P 3"]], Float[np.ndarray, "P"]]
"""f at points of the cube [-1, 1]^3; negative inside."""

_COARSE = 32  # the coarsest grid has at least half as many cells along the cube
_POINTS = 2**15  # evaluated at a time: their features stay in the processor's caches
_ON_DEVICE = 2**24  # the same on a GPU, each of which is fetched
_SUPPORT = 0.1  # of the points that the area of a piece lets expect
_OUTSIDE = np.float32(1e3)
_CPU = torch.device("cpu")


def extract_surface(field: Field, side: int, slope: float, device: torch.device = _CPU) -> Mesh | None:
    """Mesh the zero level of f: the mesh in the cube, normals outwards; None where f has no zero level.

    Args:
        field: f, evaluated at many points at a time.
        side: cells along each axis of the cube.
        slope: about the largest change of f per unit of length near the surface (1 for a signed distance; 1 /
            truncation for one that was cut and divided by it). Smaller is faster, and may miss thin parts.
        device: where the field is evaluated.
    """
    levels = [side]
    while levels[0] > _COARSE and levels[0] % 2 == 0:
        levels.insert(0, levels[0] // 2)
    field = partial(_evaluate, field, _POINTS if device.type == "cpu" else _ON_DEVICE)
    values = _everywhere(field, levels[0])
    for cells in levels[1:]:
        wanted = _may_hold_surface(values, slope * np.sqrt(3) / 2 * (4 / cells))
        values = _refined(field, values, wanted)
    if not (values.min() < 0 < values.max()):
        return None
    # Outside the cube there is nothing: a surface that leaves it is closed there.
    padded = np.pad(values, 1, constant_values=_OUTSIDE)
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="ascent")
    vertices = np.clip((vertices - 1) * (2 / side) - 1, -1, 1)
    # Its faces look along the gradient when they are turned round.
    mesh = Mesh(vertices.astype(np.float64), np.ascontiguousarray(faces[:, ::-1]).astype(np.int64))
    return mesh.part(mesh.areas > 0)


def _everywhere(field: Field, cells: int) -> Float[np.ndarray, "s s s"]:
    axis = np.linspace(-1, 1, cells + 1)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return field(points).reshape((cells + 1,) * 3)


def _may_hold_surface(values: Float[np.ndarray, "s s s"], reach: float) -> Bool[np.ndarray, "c c c"]:
    """Cells with a change of sign at their corners, or a corner that is nearer to zero than f can fall inside."""
    least, most = values, values
    for axis in range(3):
        before, after = (np.arange(values.shape[0] - 1) + step for step in (0, 1))
        least = np.minimum(least.take(before, axis), least.take(after, axis))
        most = np.maximum(most.take(before, axis), most.take(after, axis))
    wanted: np.ndarray = (least < reach) & (most > -reach)
    return wanted


def _refined(
    field: Field, values: Float[np.ndarray, "s s s"], wanted: Bool[np.ndarray, "c c c"]
) -> Float[np.ndarray, "f f f"]:
    """Values on the grid of half the spacing: evaluated in and around the cells wanted, interpolated elsewhere."""
    fine = values
    need = wanted
    for axis in range(3):
        fine = _between(fine, axis)
        # The points of a cell: its first corner, its middle, its last corner.
        doubled = np.repeat(need, 2, axis)
        pad = [(0, 0)] * 3
        pad[axis] = (0, 1)
        last = np.pad(doubled, pad)
        pad[axis] = (1, 0)
        need = last | np.pad(doubled, pad)
    # What was evaluated on the coarse grid is known.
    need[::2, ::2, ::2] = False
    at = np.nonzero(need)
    axis_values = np.linspace(-1, 1, fine.shape[0])
    fine[at] = field(np.stack([axis_values[place] for place in at], 1))
    return fine


def _between(values: np.ndarray, axis: int) -> np.ndarray:
    """Values with their means in between, along an axis."""
    shape = list(values.shape)
    shape[axis] = 2 * shape[axis] - 1
    fine = np.empty(shape, np.float32)
    slices: list[slice] = [slice(None)] * 3
    slices[axis] = slice(0, None, 2)
    fine[tuple(slices)] = values
    slices[axis] = slice(1, None, 2)
    first, second = (np.arange(values.shape[axis] - 1) + step for step in (0, 1))
    fine[tuple(slices)] = (values.take(first, axis) + values.take(second, axis)) / 2
    return fine


def _evaluate(field: Field, at_once: int, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P"]:
    parts = [field(points[first : first + at_once]) for first in range(0, len(points), at_once)]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def supported(mesh: Mesh, points: Float[np.ndarray, "P 3"]) -> Mesh:
    """The connected pieces of a surface to which points belong: to each, those that have it as the nearest.

    A piece stays with a tenth of the points that its area lets expect, and one at least: others are what is found
    between the points, drops beside the shape and bubbles in it.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    count, faces = len(mesh.vertices), mesh.faces
    first, second = np.concatenate([faces[:, :2], faces[:, 1:]]).T
    _, piece = connected_components(coo_matrix((np.ones(len(first), bool), (first, second)), (count, count)), False)
    used = np.unique(faces)
    nearest = used[cKDTree(mesh.vertices[used]).query(points)[1]]
    pieces = piece.max() + 1
    met = np.bincount(piece[nearest], minlength=pieces)
    area = np.bincount(piece[faces[:, 0]], mesh.areas, pieces)
    kept = met >= np.maximum(1, _SUPPORT * len(points) * area / area.sum())
    return mesh.part(kept[piece[faces[:, 0]]])
