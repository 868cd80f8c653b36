"""The surface f = 0 as a mesh: marching cubes, coarse to fine around the surface, in bounded memory.

f is looked at on a coarse lattice of blocks first. A block without a sign change at its corners, and with values that are
larger than what f can fall within it, holds no surface; only the others are evaluated finely, and marching cubes run on
slabs of them.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from skimage.measure import marching_cubes

from nid_dist.data.mesh import Mesh

Field = Callable[[Float[np.ndarray, "P 3"]], Float[np.ndarray, "P"]]
"""f at points of the cube [-1, 1]^3; negative inside."""

_BLOCK = 8  # fine cells along a coarse one
_POINTS = 2**17  # evaluated at a time
_FAR = np.float32(1e3)


def extract_surface(field: Field, side: int, slope: float, margin: float = 1.0) -> Mesh | None:
    """Mesh the zero level of f.

    Args:
        field: f, evaluated at many points at a time.
        side: cells along each axis of the cube.
        slope: about the largest change of f per unit of length near the surface (1 for a signed distance; 1 / truncation
            for one that was cut and divided by it).
        margin: of a coarse block's half diagonal, within which a surface is looked for; larger is slower and safer.

    Returns:
        The mesh in the cube, normals outwards; None where f has no zero level.
    """
    axis = np.linspace(-1, 1, side + 1)
    coarse = axis[::_BLOCK] if side % _BLOCK == 0 else np.append(axis[::_BLOCK], 1.0)
    corners = _on_grid(field, [coarse] * 3)
    reach = slope * margin * _BLOCK * (2 / side) * np.sqrt(3) / 2
    wanted = _blocks(corners, reach)
    if not wanted.any():
        return None
    values = _fine(field, axis, wanted, corners)
    return _march(values, side)


def _blocks(corners: Float[np.ndarray, "a b c"], reach: float) -> np.ndarray:
    """Blocks that may hold a surface: some corner's value is near zero, or the signs differ."""
    eight = np.stack(
        [
            corners[i : corners.shape[0] - 1 + i, j : corners.shape[1] - 1 + j, k : corners.shape[2] - 1 + k]
            for i in (0, 1)
            for j in (0, 1)
            for k in (0, 1)
        ]
    )
    low, high = eight.min(0), eight.max(0)
    wanted: np.ndarray = ((low <= 0) & (high >= 0)) | (np.minimum(np.abs(low), np.abs(high)) < reach)
    return wanted


def _fine(field: Field, axis: np.ndarray, wanted: np.ndarray, corners: np.ndarray) -> Float[np.ndarray, "s s s"]:
    """f at all lattice points of the blocks wanted; elsewhere a number of the sign that the blocks there have."""
    size = len(axis)
    # Far values of the right sign: where blocks are left out, no surface may appear.
    sign = np.where(corners < 0, -_FAR, _FAR).astype(np.float32)
    place = np.minimum((np.arange(size) + _BLOCK // 2) // _BLOCK, corners.shape[0] - 1)
    values = sign[np.ix_(place, place, place)]
    for slab in range(wanted.shape[0]):
        need = np.zeros((min(_BLOCK, size - slab * _BLOCK - 1) + 1, size, size), dtype=bool)
        for j, k in zip(*np.nonzero(wanted[slab]), strict=True):
            need[:, j * _BLOCK : (j + 1) * _BLOCK + 1, k * _BLOCK : (k + 1) * _BLOCK + 1] = True
        rows = slice(slab * _BLOCK, slab * _BLOCK + len(need))
        if slab and wanted[slab - 1].any():
            need[0] &= np.abs(values[rows.start]) == _FAR
        at = np.nonzero(need)
        points = np.stack([axis[at[0] + rows.start], axis[at[1]], axis[at[2]]], 1)
        values[rows][at] = _evaluate(field, points)
    return values


def _march(values: Float[np.ndarray, "s s s"], side: int) -> Mesh | None:
    if not (values.min() < 0 < values.max()):
        return None
    # Outside the cube there is nothing: a surface that leaves it is closed there.
    padded = np.pad(values, 1, constant_values=_FAR)
    clipped = np.clip(padded, -_FAR, _FAR)
    vertices, faces, _, _ = marching_cubes(clipped, 0.0, gradient_direction="descent")
    vertices = np.clip((vertices - 1) * (2 / side) - 1, -1, 1)
    mesh = Mesh(vertices.astype(np.float64), faces.astype(np.int64))
    return mesh.part(mesh.areas > 0)


def _on_grid(field: Field, axes: list[np.ndarray]) -> Float[np.ndarray, "a b c"]:
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return _evaluate(field, points).reshape([len(axis) for axis in axes])


def _evaluate(field: Field, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P"]:
    parts = [field(points[first : first + _POINTS]) for first in range(0, len(points), _POINTS)]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)
