"""Points of procedural shapes with their distances, made on a device that keeps their parts and pools."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.data.resident import Constant, Residents
from nid_dist.device import to_device
from nid_dist.tasks.shapes.draws import POOL, ProceduralDraw, Sizes
from nid_dist.tasks.shapes.sending import Points, oriented, sent
from nid_dist.tasks.shapes.signals import SPREADS, ProceduralShapes
from nid_dist.tasks.shapes.solids import Solid

_NOWHERE = 1e6  # so far away are parts that fill up solids of fewer


class ProceduralOnDevice:
    """Procedural shapes, whose parts and pools of points a device keeps."""

    def __init__(self, shapes: ProceduralShapes, sizes: Sizes) -> None:
        self._sizes = sizes
        lengths = [POOL] * len(shapes.names)
        solids = [shapes.solid(index) for index in range(len(shapes.names))]
        self._parts = [Constant(part) for part in _padded(solids)]
        self._pools, self._normals = Residents(lengths, 3, shapes.pool), Residents(lengths, 3, shapes.normals)
        self._spreads = Constant(torch.from_numpy(np.resize(SPREADS, sizes.near))[:, None])

    def points(self, shapes: Sequence[int], drawn: Sequence[ProceduralDraw], device: torch.device) -> Points | None:
        """The points of shapes by what was drawn for each; None: there is no room for them."""
        around = self._rows(self._pools, shapes, [each.rows for each in drawn], device)
        if around is None:
            return None
        around = around + self._spreads.on(device) * sent([each.offsets for each in drawn], device)
        points = torch.cat([around.clamp(-1, 1), sent([each.uniform for each in drawn], device)], 1)
        chosen = to_device(torch.tensor(shapes), device)
        boxes, rods, radii, rounded = (part.on(device)[chosen] for part in self._parts)
        distances = solid_distances(boxes, rods, radii, rounded, points)
        if not self._sizes.cloud:
            return points, distances, None
        rows = [each.cloud for each in drawn]
        on, normals = (self._rows(residents, shapes, rows, device) for residents in (self._pools, self._normals))
        if on is None or normals is None:
            return None
        return points, distances, oriented(torch.cat([on, normals], 2), [each.oriented for each in drawn])

    def _rows(
        self, residents: Residents, shapes: Sequence[int], rows: Sequence[np.ndarray], device: torch.device
    ) -> Float[Tensor, "T P 3"] | None:
        resident, arrays = residents.on(device), np.array(shapes)
        if resident is None or not resident.require(arrays):
            return None
        places = resident.starts(arrays)[:, None] + np.stack(rows)
        return resident.rows(to_device(torch.from_numpy(places), device))


def solid_distances(
    boxes: Float[Tensor, "T b 2 3"],
    rods: Float[Tensor, "T r 2 3"],
    radii: Float[Tensor, "T r"],
    rounded: Float[Tensor, "T r"],
    points: Float[Tensor, "T P 3"],
) -> Float[Tensor, "T P"]:
    """`Solid.distance` of several solids."""
    here = points[:, None]
    to_boxes = _to_corner((here - boxes[:, :, None, 0]).abs() - boxes[:, :, None, 1])
    span, radius = rods[:, :, 1] - rods[:, :, 0], radii[..., None]
    length = span.norm(dim=2, keepdim=True)
    axis, relative = (span / length)[:, :, None], here - rods.mean(2)[:, :, None]
    along = (relative * axis).sum(3)
    radial = (relative - along[..., None] * axis).norm(dim=3)
    beyond = along.abs() - length / 2
    capped = torch.hypot(radial, beyond.clamp_min(0)) - radius
    flat = _to_corner(torch.stack([radial - radius, beyond], 3))
    to_rods = torch.where(rounded[..., None] > 0, capped, flat)
    return torch.cat([to_boxes, to_rods], 1).amin(1)


def _to_corner(beyond: Float[Tensor, "*shape axes"]) -> Float[Tensor, "*shape"]:
    return beyond.clamp_min(0).norm(dim=-1) + beyond.amax(-1).clamp_max(0)


def _padded(solids: Sequence[Solid]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes, rods, radii and which rods are rounded, of as many parts for every solid."""
    boxes = np.full((len(solids), max(len(each.boxes) for each in solids), 2, 3), _NOWHERE)
    count = max(len(each.rods) for each in solids)
    rods = np.full((len(solids), count, 2, 3), _NOWHERE)
    rods[:, :, 1] += 1  # rods have a length
    radii, rounded = np.zeros((len(solids), count)), np.ones((len(solids), count))
    boxes[:, :, 1] = 0
    for place, each in enumerate(solids):
        boxes[place, : len(each.boxes)], rods[place, : len(each.rods)] = each.boxes, each.rods
        radii[place, : len(each.rods)], rounded[place, : len(each.rods)] = each.radii, each.rounded
    return torch.from_numpy(boxes), torch.from_numpy(rods), torch.from_numpy(radii), torch.from_numpy(rounded)
