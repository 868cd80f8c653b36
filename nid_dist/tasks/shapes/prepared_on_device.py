"""Points of prepared shapes, taken on a device from the samples that it keeps, all shapes of a batch at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.data.resident import Residents
from nid_dist.device import to_device
from nid_dist.tasks.shapes.augmentation import BOX, FAR
from nid_dist.tasks.shapes.draws import PreparedDraw, Sizes
from nid_dist.tasks.shapes.mesh import SIDE
from nid_dist.tasks.shapes.prepared import PreparedShapes
from nid_dist.tasks.shapes.sending import Points, oriented, sent


class PreparedOnDevice:
    """Prepared shapes, whose samples a device keeps where it has room for all of them; `changed`: by `PreparedDraw`."""

    def __init__(self, shapes: PreparedShapes, sizes: Sizes, *, changed: bool) -> None:
        self._sizes, self._changed = sizes, changed
        gradients = 3 if changed else 0
        columns = {
            "near": ["near", "near_distances", *(["near_gradients"] if changed else [])],
            "uniform": ["uniform", "uniform_distances", *(["uniform_gradients"] if changed else [])],
            "surface": ["surface", "normals"],
        }
        self._lengths = {kind: [shapes.length(index, kind) for index in range(len(shapes.names))] for kind in columns}
        self._residents = {
            kind: Residents(
                self._lengths[kind],
                6 if kind == "surface" else 4 + gradients,
                partial(shapes.columns, names=names),
            )
            for kind, names in columns.items()
        }

    def points(self, shapes: Sequence[int], drawn: Sequence[PreparedDraw], device: torch.device) -> Points | None:
        """The points of shapes by what was drawn for each; None: there is no room for them."""
        near = self._rows("near", shapes, [each.near for each in drawn], self._sizes.near, device)
        uniform = self._rows("uniform", shapes, [each.uniform for each in drawn], self._sizes.uniform, device)
        if near is None or uniform is None:
            return None
        rows = torch.cat([near, uniform], 1)
        points, distances = rows[..., :3], rows[..., 3]
        cloud = self._cloud(shapes, drawn, device)
        if self._sizes.cloud and cloud is None:
            return None
        if not self._changed:
            return points, distances, cloud
        on = self._rows("surface", shapes, [each.box for each in drawn], BOX, device)
        if on is None:
            return None
        change = _Change.fitted(on[..., :3].double(), sent([each.matrix for each in drawn], device))
        fresh, picks = sent([each.fresh for each in drawn], device), sent([each.picks for each in drawn], device)
        rows = rows.double()
        points, distances = change.samples(rows[..., :3], rows[..., 3], rows[..., 4:], self._sizes.near, fresh, picks)
        return points, distances, None if cloud is None else change.cloud(cloud.double())

    def _cloud(
        self, shapes: Sequence[int], drawn: Sequence[PreparedDraw], device: torch.device
    ) -> Float[Tensor, "T G 6"] | None:
        if not self._sizes.cloud:
            return None
        rows = self._rows("surface", shapes, [each.cloud for each in drawn], self._sizes.cloud, device)
        return None if rows is None else oriented(rows, [each.oriented for each in drawn])

    def _rows(
        self, kind: str, shapes: Sequence[int], starts: Sequence[int], count: int, device: torch.device
    ) -> Float[Tensor, "T P c"] | None:
        """Samples of each shape from a place on, round the end."""
        resident, arrays = self._residents[kind].on(device), np.array(shapes)
        if resident is None or not resident.require(arrays):
            return None
        lengths = np.array(self._lengths[kind])[arrays]
        numbers = np.stack([resident.starts(arrays), np.array(starts) % lengths, lengths])
        first, start, length = to_device(torch.from_numpy(numbers), device)[:, :, None]
        return resident.rows(first + (start + torch.arange(count, device=device)) % length)


@dataclass(frozen=True)
class _Change:
    """`Change` of several shapes."""

    matrix: Float[Tensor, "T 3 3"]
    inverse: Float[Tensor, "T 3 3"]
    shift: Float[Tensor, "T 1 3"]

    @staticmethod
    def fitted(surface: Float[Tensor, "T B 3"], matrix: Float[Tensor, "T 3 3"]) -> "_Change":
        moved = surface @ matrix.mT
        low, high = moved.amin(1, keepdim=True), moved.amax(1, keepdim=True)
        size = 2 * SIDE / (high - low).amax(2, keepdim=True)
        matrix = size * matrix
        return _Change(matrix, torch.linalg.inv_ex(matrix).inverse, -size * (low + high) / 2)

    def samples(
        self,
        points: Float[Tensor, "T P 3"],
        distances: Float[Tensor, "T P"],
        gradients: Float[Tensor, "T P 3"],
        near: int,
        fresh: Float[Tensor, "T U 3"],
        picks: Int[Tensor, "T U"],
    ) -> tuple[Float[Tensor, "T P 3"], Float[Tensor, "T P"]]:
        """See `change_samples`."""
        moved = points @ self.matrix.mT + self.shift
        distances = distances / (gradients @ self.inverse).norm(dim=2).clamp_min(1e-9)
        uncovered = ((fresh - self.shift) @ self.inverse.mT).abs().amax(2) > 1
        usable = moved[:, near:].abs().amax(2) <= 1
        counts = usable.cumsum(1)
        total, last = counts[:, -1:], points.shape[1] - near - 1
        chosen = torch.searchsorted(counts, picks % total.clamp_min(1) + 1).clamp(max=last)
        own = torch.arange(last + 1, device=points.device)
        place = near + torch.where(usable | (total == 0), own, chosen)
        uniform = torch.where(uncovered[..., None], fresh, moved.gather(1, place[..., None].expand(-1, -1, 3)))
        far = torch.where(uncovered, FAR, distances.gather(1, place))
        return torch.cat([moved[:, :near], uniform], 1), torch.cat([distances[:, :near], far], 1)

    def cloud(self, cloud: Float[Tensor, "T G 6"]) -> Float[Tensor, "T G 6"]:
        """Points where they go, with their normals; those of length 0 are none."""
        normals = cloud[..., 3:] @ self.inverse
        length = normals.norm(dim=2, keepdim=True).clamp_min(1e-9)
        return torch.cat([cloud[..., :3] @ self.matrix.mT + self.shift, normals / length], 2)
