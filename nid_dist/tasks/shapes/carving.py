"""The outside of a cloud, as far as it can be reached from the walls of the box without coming near a point."""

import numpy as np
from jaxtyping import Bool, Float

HOLE = 2.0
"""Times the spacing: the radius of holes that random points leave in a surface, at most."""
CELLS = 48
"""Along the box [-1, 1]^3, in which the outside is followed."""
_SHORTEST, _LONGEST = 1e-3, 0.5  # spacing, in box units
_NEIGHBOURS = 8

Points = Float[np.ndarray, "P 3"]


def spacing_of(points: Points) -> float:
    """Between points of a surface, about, in box units."""
    from scipy.spatial import cKDTree

    neighbours = min(_NEIGHBOURS, len(points) - 1)
    if neighbours < 1:
        return _LONGEST
    distance = np.median(cKDTree(points).query(points, k=neighbours + 1)[0][:, -1])
    return float(np.clip(distance / np.sqrt(neighbours / np.pi), _SHORTEST, _LONGEST))


def carve(points: Points, spacing: float) -> Bool[np.ndarray, "c c c"]:
    """Cells that can be reached from the walls of the box without coming near the points."""
    from scipy.ndimage import label
    from scipy.spatial import cKDTree

    centres = (np.arange(CELLS) + 0.5) * 2 / CELLS - 1
    grid = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), -1).reshape(-1, 3)
    near = HOLE * spacing
    free = (cKDTree(points).query(grid, distance_upper_bound=2 * near)[0] > near).reshape((CELLS,) * 3)
    parts, _ = label(free)
    walls = np.concatenate([parts[[0, -1]].ravel(), parts[:, [0, -1]].ravel(), parts[:, :, [0, -1]].ravel()])
    reached: np.ndarray = free & np.isin(parts, np.unique(walls[walls > 0]))
    return reached
