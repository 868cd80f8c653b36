"""How close a surface is to the true one: Chamfer, Hausdorff, normal consistency, F-score, volumetric IoU."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float

from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.mesh_distance import closest

SAMPLES = 30_000
F_SCORE_AT = 0.01  # of the longest side of the true shape's bounding box


@dataclass(frozen=True)
class MeshMetrics:
    """Distances are in the meshes' units."""

    chamfer: float  # mean of the two directions' mean (unsquared) distances
    accuracy: float  # mean distance from the surface found to the true one
    completeness: float  # mean distance from the true surface to the one found
    hausdorff: float  # the largest distance of either direction
    normals: float  # mean |cosine| between normals of closest points, of both directions
    f_score: float  # harmonic mean of the shares of either surface that lie within 1 % of the box's side from the other

    def as_dict(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


def compare_meshes(
    found: Mesh, true: Mesh, generator: np.random.Generator, samples: int = SAMPLES, threshold: float | None = None
) -> MeshMetrics:
    """Compare two surfaces, of a face or more, by points of each and their exact distances to the other's faces.

    `threshold` is that of the F-score; None: 1 % of the true bounding box's longest side.
    """
    if threshold is None:
        threshold = F_SCORE_AT * float(np.ptp(true.corners.reshape(-1, 3), 0).max())
    there, there_cosine = _towards(found, true, samples, generator)
    back, back_cosine = _towards(true, found, samples, generator)
    precision, recall = float((there <= threshold).mean()), float((back <= threshold).mean())
    return MeshMetrics(
        float(there.mean() + back.mean()) / 2,
        float(there.mean()),
        float(back.mean()),
        float(max(there.max(), back.max())),
        float(there_cosine.mean() + back_cosine.mean()) / 2,
        2 * precision * recall / max(precision + recall, 1e-12),
    )


def volumetric_iou(found: Bool[np.ndarray, "P"], true: Bool[np.ndarray, "P"]) -> float:
    """Intersection over union of two insides, at points drawn uniformly or on a grid; 1 where both are empty."""
    union = int((found | true).sum())
    return float((found & true).sum()) / union if union else 1.0


def _towards(
    one: Mesh, other: Mesh, samples: int, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "P"], Float[np.ndarray, "P"]]:
    """Distances from points of one surface to the other, and the normals' |cosines|."""
    points, face = one.sample(samples, generator)
    length, nearest, _ = closest(other, points)
    return length, np.abs((one.normals[face] * other.normals[nearest]).sum(1))
