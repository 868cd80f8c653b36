"""A surface from a sparse cloud of points: min over codes of the sum of |f| on them and of |f - d(x, cloud)| off them.

Everything is linear in the code, so this is one robust fit. What f is on and off the points:

- on a point f = 0; with normals also f = ± step at a step along the normal to either side.
- off the points f is the distance to the cloud, cut as the dictionary's signals are, at points farther from the cloud
  than its spacing (nearer, the distance to a sparse cloud says little of that to the surface).
- The sign of that distance: with normals, the winding number of the oriented points. Without, a point is outside when
  it can be reached from the box's walls without coming near the cloud; where it cannot, nothing is said, and the prior
  of the dictionary, learned from its training shapes, decides.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from nid_dist.code import Code
from nid_dist.coding.solvers.irls import RobustSolution
from nid_dist.coding.solvers.robust_map import solve_robust_map
from nid_dist.device import Stopwatch, to_device
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.meshing import extract_surface
from nid_dist.tasks.shapes.point_clouds import Cloud

Points = Float[np.ndarray, "P 3"]

_STEPS = (0.01, 0.03)  # along the normals, in box units
_OFF = 2048  # points off the surface
_CARVE = 48  # cells along the box in which the outside is followed
_LEAST = 0.05  # in box units; nearer than this, and than the spacing, the distance to the cloud is not believed
_HOLE = 2.0  # times the spacing: the radius of holes that random points leave in a surface, at most
_NEIGHBOURS = 8
_WITHIN = 0.6  # of the points
_ENOUGH = 200  # points; of fewer, those of a thin leg are as lonely as outliers
_COMPANY, _ALONE = 4, 2.5  # neighbours; times the median of their distance, beyond which a point is left out
_INDEPENDENT = (
    300  # points; of more, neighbours share what a dictionary cannot represent of them, and count together so
)


@dataclass(frozen=True)
class FitOptions:
    """How a cloud is fitted."""

    noise: float = 0.05  # standard deviation of f on the points, in units of the truncation
    iterations: int = 4  # of reweighting
    off_weight: float = 0.2  # of all points off the surface together, relative to those on it
    loss: Literal["l2", "l1", "huber", "tukey", "welsch"] = "huber"  # on the residuals
    seed: int = 0  # of the points off the surface


@dataclass(frozen=True)
class Measured:
    """What a cloud says of f."""

    coords: Points
    values: Float[np.ndarray, "P"]  # of f, in units of the truncation
    weights: Float[np.ndarray, "P"]


def fit_cloud(model: Model, cloud: Cloud, options: FitOptions | None = None) -> RobustSolution:
    """Fit the code of a shape to points of its surface, which lie in the cube.

    Returns:
        The code, of at most k coefficients; the mean square of f on the points that were believed; the weights of all
        points after the robust fit, in [0, 1]: small for outliers.
    """
    options = options or FitOptions()
    watch = Stopwatch(model.device)
    believed = ~_alone(cloud.points)
    normals = None if cloud.normals is None else cloud.normals[believed]
    weights = np.zeros(len(cloud.points))
    code, weights[believed] = _fit(model, Cloud(cloud.points[believed], normals), options)
    # f cannot dip far enough between the sides of what is thin, and is positive there on points that should have 0: the
    # surface is put where the greater part of the points lies inside or on it.
    values = evaluate_code(model, code, cloud.points[believed])
    level = float(np.quantile(values, _WITHIN))
    code = replace(code, bias=code.bias - level)
    residual = torch.tensor([np.square(values - level).mean()], dtype=torch.float32)
    return RobustSolution(code, residual, weights=torch.from_numpy(weights)[None], seconds=watch.seconds())


def _fit(model: Model, cloud: Cloud, options: FitOptions) -> tuple[Code, Float[np.ndarray, "P"]]:
    """The code, and how far each point of the cloud is trusted."""
    known = _both_halves(cloud, model.config.dictionary.encoding.mirror)
    measured = measure_cloud(cloud, model.config.signals_of(ShapesSection).truncation, options, known)
    coords, values, weights = (
        torch.from_numpy(part).float().to(model.device) for part in (measured.coords, measured.values, measured.weights)
    )
    found = solve_robust_map(
        model.dictionary,
        Sampling(coords),
        values[:, None],
        model.require_prior(),
        noise=options.noise,
        k=model.support,
        blocks=model.config.coding.blocks,
        weights=weights,
        iterations=options.iterations,
    )
    return found.code, found.trust[: len(cloud.points)].cpu().numpy()


def init_code(model: Model, cloud: Cloud) -> Code:
    """The own code of a pointnet gate for a cloud in the cube."""
    normals = np.zeros_like(cloud.points) if cloud.normals is None else cloud.normals
    gate_input = torch.from_numpy(np.concatenate([cloud.points, normals], 1)).float()
    return model.encode(gate_input[None].to(model.device))


def measure_cloud(cloud: Cloud, truncation: float, options: FitOptions, known: Cloud | None = None) -> Measured:
    """What is known of f from a cloud in the cube.

    Args:
        truncation: at which distances are cut, and by which they are divided.
        known: all points that are known to be on the surface, these and others; None: these.
    """
    from scipy.spatial import cKDTree

    generator = np.random.default_rng(options.seed)
    known = cloud if known is None else known
    points, tree = cloud.points, cKDTree(known.points)
    near = tree.query(points, k=min(_NEIGHBOURS + 1, len(known.points)))[0].reshape(len(points), -1)
    spacing = float(np.median(near[:, -1])) / np.sqrt(_NEIGHBOURS / np.pi) if near.shape[1] > 1 else 0.1
    clear = max(spacing, _LEAST)
    coords, values, weights = [points], [np.zeros(len(points))], [np.ones(len(points))]
    if cloud.normals is not None:
        for step in _STEPS:
            for side in (-1.0, 1.0):
                there = points + side * step * cloud.normals
                # Where another point is closer, the step has passed through something thin.
                length = tree.query(there)[0]
                kept = length > 0.9 * step
                coords.append(there[kept])
                values.append(np.full(int(kept.sum()), side * step / truncation))
                weights.append(np.ones(int(kept.sum())))
    off = generator.uniform(-1, 1, (_OFF, 3))
    around = points[generator.integers(len(points), size=_OFF)] + 2 * clear * generator.normal(size=(_OFF, 3))
    off = np.concatenate([off, np.clip(around, -1, 1)])
    length = tree.query(off)[0]
    outside, sure = _signs(known, off, spacing)
    kept = sure & (length > clear)
    off, sign, length = off[kept], np.where(outside[kept], 1.0, -1.0), length[kept]
    coords.append(off)
    values.append(sign * np.minimum(length / truncation, 1))
    weights.append(np.full(len(off), options.off_weight * sum(map(len, weights)) / max(len(off), 1)))
    counted = min(1.0, _INDEPENDENT / len(points))
    return Measured(np.concatenate(coords), np.concatenate(values), counted * np.concatenate(weights))


def _alone(points: Points) -> Bool[np.ndarray, "P"]:
    """Points far from all others, as outliers are: they would spoil distances and signs off the surface as well."""
    from scipy.spatial import cKDTree

    if len(points) < _ENOUGH:
        return np.zeros(len(points), bool)
    distance = cKDTree(points).query(points, k=_COMPANY + 1)[0][:, 1:].mean(1)
    alone: np.ndarray = distance > _ALONE * np.median(distance)
    return alone


def _both_halves(cloud: Cloud, mirror: int | None) -> Cloud:
    """A cloud with its mirror image, where the dictionary's shapes are their own."""
    if mirror is None:
        return cloud
    sign = np.where(np.arange(3) == mirror, -1.0, 1.0)
    normals = None if cloud.normals is None else np.concatenate([cloud.normals, sign * cloud.normals])
    return Cloud(np.concatenate([cloud.points, sign * cloud.points]), normals)


def _signs(cloud: Cloud, off: Points, spacing: float) -> tuple[Bool[np.ndarray, "P"], Bool[np.ndarray, "P"]]:
    """Which points are outside, and of which that is known."""
    if cloud.normals is not None:
        import igl
        from scipy.spatial import cKDTree

        neighbours = min(_NEIGHBOURS, len(cloud.points))
        radius = cKDTree(cloud.points).query(cloud.points, k=neighbours)[0].reshape(len(cloud.points), -1)[:, -1]
        areas = np.minimum(np.pi * radius**2 / max(neighbours - 1, 1), np.pi * spacing**2)
        winding = igl.fast_winding_number(
            np.ascontiguousarray(cloud.points), np.ascontiguousarray(cloud.normals), areas, np.ascontiguousarray(off)
        )
        return winding < 0.5, np.abs(winding - 0.5) > 0.2
    reached = _carved(cloud, spacing)
    cells = len(reached)
    place = np.clip(((off + 1) / 2 * cells).astype(int), 0, cells - 1)
    outside = reached[place[:, 0], place[:, 1], place[:, 2]]
    return outside, outside


def _carved(cloud: Cloud, spacing: float) -> Bool[np.ndarray, "c c c"]:
    """Cells that can be reached from the walls of the box without coming near the cloud."""
    from scipy.ndimage import label
    from scipy.spatial import cKDTree

    centres = (np.arange(_CARVE) + 0.5) * 2 / _CARVE - 1
    grid = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), -1).reshape(-1, 3)
    free = (cKDTree(cloud.points).query(grid)[0] > _HOLE * spacing).reshape((_CARVE,) * 3)
    parts, _ = label(free)
    walls = np.concatenate([parts[[0, -1]].ravel(), parts[:, [0, -1]].ravel(), parts[:, :, [0, -1]].ravel()])
    reached: np.ndarray = free & np.isin(parts, np.unique(walls[walls > 0]))
    return reached


def mesh_code(model: Model, code: Code, side: int) -> Mesh | None:
    """The surface of one shape's code in the cube, `side` cells along it; None where f has no zero level."""
    slope = 1 / model.config.signals_of(ShapesSection).truncation
    return extract_surface(lambda points: evaluate_code(model, code, points), side, slope, model.device)


def evaluate_code(model: Model, code: Code, points: Points) -> Float[np.ndarray, "P"]:
    """f of one code at points, in units of the truncation."""
    values: np.ndarray = (
        model.evaluate(code, to_device(torch.from_numpy(np.ascontiguousarray(points)).float(), model.device))[0, :, 0]
        .cpu()
        .numpy()
    )
    return values
