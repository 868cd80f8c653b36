"""Whether a cloud's normals point out of the shape, one by one: by where the outside is, as carving finds it.

A normal points out where the outside is in reach on its side of the surface and not on the other. Where it is so on
both sides or on neither, as at thin sheets and in narrow gaps, nothing is said.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from nid_dist.errors import doubt
from nid_dist.tasks.shapes.carving import CELLS, HOLE, carve, spacing_of
from nid_dist.tasks.shapes.point_clouds import Cloud

# Measured on 23 real chairs, whose thin parts and gaps contradict right normals, too, by 300 and by 1000 points: of
# right normals at most 0.48 of them, in the median 0.12 and 0.04.
_INWARD = 0.6  # of the normals contradicted: turned as a whole
_MIXED = 0.45  # turned one by one
_ONE_SIDED = 0.25  # length of the mean normal: 0.17 at most on whole surfaces, by 100 points
_ONE_SIDED_MIXED = 0.2  # contradicted, where they are one-sided
_SOME = 0.15  # contradicted, where turning them makes neighbours agree:
_BETTER = 0.5  # times as many pairs of neighbours that disagree
_ENOUGH = 0.1  # of the points where something is said, so that anything is done
_MOST = 0.6  # of the points where something is said, so that those turned one by one make a surface
_PARALLEL, _LEVEL = 0.8, 0.3  # cosine, and slope to each other, of neighbours in one sheet
_LOST = 0.12  # of the neighbours, whose normals lie on parallel lines: fewer are no surface's
_NEIGHBOURS = 8
_LOOKED_AT = 20_000  # points, to carve and to compare neighbours
_SURE = 200  # points, from which on neighbours lie in one sheet


def orient(cloud: Cloud, where: str) -> Cloud:
    """A cloud in the cube with normals that point out of the shape, as far as that can be seen.

    Those that do not are turned; where too few can be told, or they are no surface's, they are left out.

    Warns:
        DoubtfulMeaning: how many were turned, why they are left out, or that all look to one side.
    """
    if cloud.normals is None:
        return cloud
    some = np.random.default_rng(0).permutation(len(cloud.points))[:_LOOKED_AT]
    points = cloud.points[some]
    sides, normals = _sides(cloud, points), cloud.normals
    if sides.said >= _ENOUGH and sides.contradicted > _INWARD:
        sides, normals = sides.swapped(), -normals
    mixed = np.where(sides.wrong, -1.0, 1.0)[:, None] * normals
    one_sided = float(np.linalg.norm(cloud.normals.mean(0)))
    before, parallel = _disagreement(points, normals[some])
    after, _ = _disagreement(points, mixed[some])
    is_mixed = sides.said >= _ENOUGH and (
        sides.contradicted > _MIXED
        or (one_sided > _ONE_SIDED and sides.contradicted > _ONE_SIDED_MIXED)
        or (sides.contradicted > _SOME and after < _BETTER * before)
    )
    found = mixed if is_mixed else normals
    turned = float((np.einsum("pc,pc->p", found, cloud.normals) < 0).mean())
    if len(some) >= _SURE and parallel < _LOST:
        doubt(
            where,
            found="normals that differ from point to point as if at random",
            taken_as="none",
            hint="estimate them again",
        )
        return replace(cloud, normals=None)
    if is_mixed and sides.said < _MOST:
        doubt(
            where,
            found=f"normals of which {turned / sides.said:.0%} point into the shape where that can be seen, "
            f"at {sides.said:.0%} of the points",
            taken_as="none",
            hint="turn those that point into the shape",
        )
        return replace(cloud, normals=None)
    if turned >= _ENOUGH or is_mixed:
        doubt(
            where,
            found=f"normals of which {turned:.0%} point into the shape, as far as that can be seen",
            taken_as="turned where they do",
            hint="turn them in the file, or ask for none, if its surface is not right",
        )
    elif one_sided > _ONE_SIDED:
        doubt(
            where,
            found=f"normals that look to one side (their mean is {one_sided:.2f} long; about 0 all round a shape)",
            taken_as="a surface that was measured from there alone",
            hint="turn those that point into the shape, if it was measured all round",
        )
    return replace(cloud, normals=found)


@dataclass(frozen=True)
class _Sides:
    """Where the outside is in reach on the normal's side alone, and on the other alone."""

    right: Bool[np.ndarray, "P"]
    wrong: Bool[np.ndarray, "P"]

    @property
    def said(self) -> float:
        """Share of points."""
        return float((self.right | self.wrong).mean())

    @property
    def contradicted(self) -> float:
        """Share of these."""
        return float(self.wrong.sum() / max((self.right | self.wrong).sum(), 1))

    def swapped(self) -> "_Sides":
        return _Sides(self.wrong, self.right)


def _sides(cloud: Cloud, known: Float[np.ndarray, "K 3"]) -> _Sides:
    assert cloud.normals is not None
    spacing = spacing_of(known)
    reached = carve(known, spacing)
    step = HOLE * spacing + 1.8 / CELLS  # nearer than the first no cell is reached, and a cell is 2 / CELLS wide

    def outside(points: Float[np.ndarray, "P 3"]) -> Bool[np.ndarray, "P"]:
        cell = np.floor((points + 1) / 2 * CELLS).astype(int)
        beyond = ((cell < 0) | (cell >= CELLS)).any(1)
        x, y, z = np.clip(cell, 0, CELLS - 1).T
        found: np.ndarray = reached[x, y, z] | beyond
        return found

    above, below = outside(cloud.points + step * cloud.normals), outside(cloud.points - step * cloud.normals)
    return _Sides(above & ~below, below & ~above)


def _disagreement(points: Float[np.ndarray, "P 3"], normals: Float[np.ndarray, "P 3"]) -> tuple[float, float]:
    """Share of pairs of neighbours in one sheet whose normals look to different sides; and of pairs in one sheet."""
    from scipy.spatial import cKDTree

    length, near = cKDTree(points).query(points, k=min(_NEIGHBOURS + 1, len(points)))
    length, near = length[:, 1:], near[:, 1:]
    cosine = np.einsum("pc,pkc->pk", normals, normals[near])
    rise = np.abs(np.einsum("pkc,pc->pk", points[near] - points[:, None], normals))
    sheet = (np.abs(cosine) > _PARALLEL) & (rise < _LEVEL * length)
    return float(((cosine < 0) & sheet).sum() / max(sheet.sum(), 1)), float(sheet.mean())
