"""A surface from a sparse cloud of points: min over codes of the sum of |f| on them and of |f - d(x, cloud)| off them.

Everything is linear in the code, so this is one robust fit. What f is on and off the points:

- on a point f = 0; with normals also f = ± step at a step along the normal to either side.
- off the points f is the distance to the cloud, cut as the dictionary's signals are, at points farther from the cloud
  than its spacing (nearer, the distance to a sparse cloud says little of that to the surface).
- The sign of that distance: with normals, the winding number of the oriented points. Without, a point is outside when
  it can be reached from the box's walls without coming near the cloud; where it cannot, nothing is said, and the prior
  of the dictionary, learned from its training shapes, decides.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from nid_dist.code import Code
from nid_dist.coding.solvers.irls import RobustSolution
from nid_dist.coding.solvers.robust_map import solve_robust_map
from nid_dist.device import Stopwatch, to_device
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.tasks.shapes.carving import carve, spacing_of
from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.kriging import Oriented, folds, krige
from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.meshing import extract_surface, supported
from nid_dist.tasks.shapes.point_clouds import Cloud

Points = Float[np.ndarray, "P 3"]

_STEPS = (0.01, 0.03)  # along the normals, in box units
_OFF = 2048  # points off the surface
_LEAST = 0.05  # in box units; nearer than this, and than the spacing, the distance to the cloud is not believed
_NEIGHBOURS = 8
_ENOUGH = 200  # points; of fewer, those of a thin leg are as lonely as outliers
_FEWEST = 8  # points that are believed, at least
_TREND = 1000  # points that the dictionary is fitted to: more say no more of what it can represent
_TRIED = 2000  # points that choices are made on
_MANY = 50_000  # points; of more, those of a cell are taken together
_THINNED = 256  # cells along the cube, in which they are
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
class CloudSolution(RobustSolution):
    """A cloud's code, and how far the dictionary has a part in it."""

    trusted: bool = True  # False: the points left out were met better without the dictionary; its part is 0
    roughness: float = 0.0  # of the detail, as chosen
    equations: float = 0.0  # relative residual of the equations for the detail


@dataclass(frozen=True)
class Measured:
    """What a cloud says of f."""

    coords: Points
    values: Float[np.ndarray, "P"]  # of f, in units of the truncation
    weights: Float[np.ndarray, "P"]


def fit_cloud(model: Model, cloud: Cloud, options: FitOptions | None = None) -> CloudSolution:
    """Fit the code of a shape to points of its surface, which lie in the cube, and the detail that it leaves over.

    Returns:
        The code, of at most k coefficients, with detail; the mean square of f on the points that were believed; the
        weights of all points after the dictionary's robust fit, in [0, 1]: small for outliers.
    """
    options = options or FitOptions()
    watch = Stopwatch(model.device)
    thinned, cell, counts = thin(cloud)
    believed = ~_alone(thinned.points)
    if believed.sum() < _FEWEST:
        believed[:] = True
    known = _some(thinned, believed)
    order = np.random.default_rng(options.seed).permutation(len(known.points))
    few, tried = order[:_TREND], order[:_TRIED]
    kept = folds(len(tried))
    code, trust = _fit(model, _some(known, few), options)
    without, _ = _fit(model, _some(known, tried[kept][:_TREND]), options)
    counts = counts[believed]
    whole = _oriented(model, known, counts, options)
    found = krige(model, code, without, kept, _oriented(model, _some(known, tried), counts[tried], options), whole)
    weights = believed.astype(float)
    weights[np.flatnonzero(believed)[few]] = trust
    residual = np.square(evaluate_code(model, found.code, known.points)).mean()
    return CloudSolution(
        found.code,
        torch.tensor([residual], dtype=torch.float32),
        weights=torch.from_numpy(weights[cell])[None],
        seconds=watch.seconds(),
        trusted=found.trusted,
        roughness=found.roughness,
        equations=found.residual,
    )


def _oriented(model: Model, cloud: Cloud, counts: Float[np.ndarray, "P"], options: FitOptions) -> Oriented:
    """What a cloud says of f itself, its mirror image left out."""
    truncation = model.config.signals_of(ShapesSection).truncation
    off = _off_surface(cloud, cloud, truncation, options.seed)

    def moved(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).float().to(model.device)

    gradients = None if cloud.normals is None else moved(cloud.normals / truncation)
    return Oriented(
        moved(cloud.points), gradients, moved(counts), moved(off.coords), moved(off.values), spacing_of(cloud.points)
    )


def _some(cloud: Cloud, which: np.ndarray) -> Cloud:
    return Cloud(cloud.points[which], None if cloud.normals is None else cloud.normals[which])


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

    known = cloud if known is None else known
    points, tree = cloud.points, cKDTree(known.points)
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
    off = _off_surface(cloud, known, truncation, options.seed)
    coords.append(off.coords)
    values.append(off.values)
    weights.append(np.full(len(off.coords), options.off_weight * sum(map(len, weights)) / max(len(off.coords), 1)))
    counted = min(1.0, _INDEPENDENT / len(points))
    return Measured(np.concatenate(coords), np.concatenate(values), counted * np.concatenate(weights))


def _off_surface(cloud: Cloud, known: Cloud, truncation: float, seed: int) -> Measured:
    """f at points of the cube and around the cloud, as far as it follows from the known points."""
    from scipy.spatial import cKDTree

    generator = np.random.default_rng(seed)
    points, tree = cloud.points, cKDTree(known.points)
    near = tree.query(points, k=min(_NEIGHBOURS + 1, len(known.points)))[0].reshape(len(points), -1)
    spacing = float(np.median(near[:, -1])) / np.sqrt(_NEIGHBOURS / np.pi) if near.shape[1] > 1 else 0.1
    clear = max(spacing, _LEAST)
    off = generator.uniform(-1, 1, (_OFF, 3))
    around = points[generator.integers(len(points), size=_OFF)] + 2 * clear * generator.normal(size=(_OFF, 3))
    off = np.concatenate([off, np.clip(around, -1, 1)])
    length = tree.query(off)[0]
    outside, sure = _signs(known, off, spacing)
    kept = sure & (length > clear)
    off, sign, length = off[kept], np.where(outside[kept], 1.0, -1.0), length[kept]
    return Measured(off, sign * np.minimum(length / truncation, 1), np.ones(len(off)))


def thin(cloud: Cloud) -> tuple[Cloud, Int[np.ndarray, "P"], Float[np.ndarray, "C"]]:
    """One point for all of a small cell that look the same way, where there are very many: at their mean.

    Returns:
        The cloud of these, which of them each point went into, and of how many each is the mean.
    """
    count = len(cloud.points)
    if count <= _MANY:
        return cloud, np.arange(count), np.ones(count)
    cell = np.floor((np.clip(cloud.points, -1, 1) + 1) / 2 * (_THINNED - 1)).astype(np.int64)
    key = (cell[:, 0] * _THINNED + cell[:, 1]) * _THINNED + cell[:, 2]
    if cloud.normals is not None:
        # The two sides of something thin stay apart.
        axis = np.abs(cloud.normals).argmax(1)
        key = 6 * key + 2 * axis + (cloud.normals[np.arange(count), axis] > 0)
    _, where, counts = np.unique(key, return_inverse=True, return_counts=True)

    def means(values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(where, values[:, axis]) for axis in range(3)], 1) / counts[:, None]

    normals = None
    if cloud.normals is not None:
        normals = means(cloud.normals)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return Cloud(means(cloud.points), normals), where, counts.astype(float)


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
    reached = carve(cloud.points, spacing)
    cells = len(reached)
    place = np.clip(((off + 1) / 2 * cells).astype(int), 0, cells - 1)
    outside = reached[place[:, 0], place[:, 1], place[:, 2]]
    return outside, outside


def mesh_code(model: Model, code: Code, side: int, cloud: Cloud | None = None) -> Mesh | None:
    """The surface of one shape's code in the cube, `side` cells along it; None where f has no zero level.

    With the cloud, pieces of the surface that none of its points support are left out.
    """
    slope = 1 / model.config.signals_of(ShapesSection).truncation
    mesh = extract_surface(lambda points: evaluate_code(model, code, points), side, slope, model.device)
    return mesh if mesh is None or cloud is None else supported(mesh, cloud.points)


def evaluate_code(model: Model, code: Code, points: Points) -> Float[np.ndarray, "P"]:
    """f of one code at points, in units of the truncation."""
    values: np.ndarray = (
        model.evaluate(code, to_device(torch.from_numpy(np.ascontiguousarray(points)).float(), model.device))[0, :, 0]
        .cpu()
        .numpy()
    )
    return values
