"""Faces with any number of corners, cut into triangles: fans where they are convex, ears where they are not."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

_FLAT = 1e-9  # of a face's area: a triangle turned over by less is one without area


def triangulate(
    vertices: Float[np.ndarray, "V 3"], corners: Sequence[int] | np.ndarray, counts: Sequence[int] | np.ndarray
) -> Int[np.ndarray, "F 3"]:
    """Triangles that cover faces, in their order; what has fewer than three corners is none.

    Args:
        vertices: places.
        corners: of all faces, one after the other.
        counts: how many of these each face has.

    Raises:
        ValueError: for a corner that is not there.
    """
    flat, sizes = np.asarray(corners, np.int64).reshape(-1), np.asarray(counts, np.int64).reshape(-1)
    if len(flat) and (flat.min() < 0 or flat.max() >= len(vertices)):
        wrong = flat[(flat < 0) | (flat >= len(vertices))][0]
        raise ValueError(f"a face with corner {wrong} of {len(vertices)}")
    begin, parts = np.cumsum(sizes) - sizes, np.maximum(sizes - 2, 0)
    first = np.cumsum(parts) - parts
    faces = np.zeros((int(parts.sum()), 3), np.int64)
    for size in np.unique(sizes[sizes >= 3]).tolist():
        which = np.flatnonzero(sizes == size)
        rows = flat[begin[which, None] + np.arange(size)]
        fan = np.stack([rows[:, [0, each, each + 1]] for each in range(1, size - 1)], 1)
        if size > 3:
            for each in np.flatnonzero(_turned(vertices, rows, fan)):
                fan[each] = rows[each][_ears(vertices[rows[each]])]
        faces[first[which, None] + np.arange(size - 2)] = fan
    return faces


def strips(corners: Sequence[int] | np.ndarray) -> Int[np.ndarray, "F 3"]:
    """The triangles of strips, one after the other and ended by negative numbers: every second one is turned."""
    found = [np.zeros((0, 3), np.int64)]
    flat = np.asarray(corners, np.int64).reshape(-1)
    for strip in np.split(flat, np.flatnonzero(flat < 0)):
        strip = strip[strip >= 0]
        if len(strip) >= 3:
            faces = np.stack([strip[:-2], strip[1:-1], strip[2:]], 1)
            faces[1::2] = faces[1::2, [1, 0, 2]]
            found.append(faces)
    return np.concatenate(found)


def _newell(places: Float[np.ndarray, "... c 3"]) -> Float[np.ndarray, "... 3"]:
    """The normals of faces, of twice their areas' length: Newell's, which needs no face to be flat or convex."""
    around = places - places.mean(-2, keepdims=True)
    normal: np.ndarray = np.cross(around, np.roll(around, -1, -2)).sum(-2)
    return normal


def _turned(vertices: np.ndarray, rows: np.ndarray, fan: np.ndarray) -> np.ndarray:
    """Of which faces the fan has triangles that look the other way: they cover what is outside of the face."""
    normal = _newell(vertices[rows])
    one, two, three = vertices[fan].transpose(2, 0, 1, 3)
    along = np.einsum("ftc,fc->ft", np.cross(two - one, three - one), normal)
    turned: np.ndarray = (along < -_FLAT * np.square(normal).sum(1)[:, None]).any(1)
    return turned


def _ears(places: Float[np.ndarray, "c 3"]) -> Int[np.ndarray, "t 3"]:
    """Triangles of one face, in the plane of its normal: ears are cut off until a triangle is left (Meisters 1975)."""
    normal = _newell(places)
    axis = int(np.abs(normal).argmax())
    flat = np.delete(places, axis, 1) * np.array([1.0, 1.0 if (normal[axis] > 0) == (axis != 1) else -1.0])
    left, found = list(range(len(places))), []
    while len(left) > 3:
        for turn in range(len(left)):
            ear = [left[turn - 1], left[turn], left[(turn + 1) % len(left)]]
            others = flat[[each for each in left if each not in ear]]
            if _turn(*flat[ear]) > 0 and not _within(others, flat[ear]).any():
                break
        else:  # it crosses itself: no ear is right
            turn, ear = 1, left[:3]
        found.append(ear)
        del left[turn]
    return np.array([*found, left])


def _turn(one: np.ndarray, two: np.ndarray, three: np.ndarray) -> np.ndarray:
    """Twice the area of a triangle in a plane, negative where it is clockwise."""
    first, second = two - one, three - two
    return np.asarray(first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0])


def _within(points: np.ndarray, ear: np.ndarray) -> np.ndarray:
    sides = [_turn(ear[each - 1], ear[each], points) for each in range(3)]
    # A corner that lies where one of the ear does is its double, as at a bridge to a hole.
    apart = (points[:, None] != ear[None]).any(2).all(1)
    within: np.ndarray = (np.stack(sides) >= 0).all(0) & apart
    return within
