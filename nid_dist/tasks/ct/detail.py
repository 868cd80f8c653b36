"""A slice as the scan, the learned prior and its total variation together make it most probable: one convex problem.

    min over f in [0, 1]   |A f - y|^2_W / 2  +  lambda TV(f)  +  (P f - mean)^T (D D^T + s^2)^-1 (P f - mean) / 2

f are the values of a grid of pixels, finer than the dictionary's, interpolated linearly (degree-1 splines): the detail
experts. P takes means over the dictionary's pixels, which its prior knows: mean + D z with standard normals z, and
white noise s beside it. s infinite is total variation alone, lambda 0 and s small the prior alone, and s is as large as
the scan says that slices lie beside the prior (`nid_dist.coding.solvers.evidence`): what is unlike the training data is
left to the detail.

Solved by a primal-dual method (Chambolle and Pock 2011) with a bounded number of steps; the prior's proximal step is
closed, as the rows of P do not overlap.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nid_dist.coding.solvers.subspace import subspace
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.detail.sparse import SparseRows
from nid_dist.measurements.geometry import Geometry
from nid_dist.model import Model
from nid_dist.precision import full_precision
from nid_dist.tasks.ct.classical import image_matrix

VARIATION = 3.0
"""lambda, per unit that neighbours differ by, where nobody says another: as good as the best for most scans."""
_SMALL = 128  # pixels a side, up to which the grid is twice as fine
_PIXEL_ERROR = 0.4  # over pixels a side: standard deviation of a line's integral through pixels from that through f
_STEPS, _CHECK = 400, 20
_ENOUGH = 3e-5  # root mean square change in a step, after which there are no more
_PACE = 0.06  # of the primal step: found on phantoms, without influence on what the steps lead to
_NORM_STEPS = 30


@dataclass(frozen=True)
class Found:
    """T slices on the finer grid."""

    values: Float[Tensor, "T S S"]  # 0 outside the disc
    residual: Float[Tensor, "T"]  # mean squared error of the line integrals
    steps: int  # that were made


@dataclass(frozen=True, eq=False)
class Joint:
    """The problem of one geometry; what depends on it alone is prepared once."""

    model: Model
    geometry: Geometry

    @property
    def pixels(self) -> int:
        """A side of the dictionary's images."""
        return self.model.grid_shape[0]

    @property
    def times(self) -> int:
        """How much finer the grid is."""
        return 2 if self.pixels <= _SMALL else 1

    @property
    def side(self) -> int:
        """S, of the finer grid."""
        return self.times * self.pixels

    @property
    def chord(self) -> float:
        """Root mean square length of the lines within the disc."""
        return float((4 * (1 - self.geometry.lines[1].square()).clamp_min(0)).mean().sqrt())

    @property
    def pixel_error(self) -> float:
        """What the grid itself changes of a line integral: standard deviation, in value times radius."""
        return _PIXEL_ERROR / self.side

    @property
    def device(self) -> torch.device:
        """Where it is solved: where the model is."""
        return self.model.device

    @cached_property
    def matrices(self) -> tuple[SparseRows, SparseRows]:
        """A [M, S * S] and its transpose."""
        matrix = image_matrix(self.geometry, self.side).astype(np.float32)
        matrix = matrix.multiply(self.inside.flatten().cpu().numpy()[None]).tocsr()
        row = torch.from_numpy(np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr)))
        parts = (row, torch.from_numpy(matrix.indices), torch.from_numpy(matrix.data))
        row, column, value = (part.to(self.device) for part in parts)
        own = SparseRows.ordered(row, column, value, (matrix.shape[0], matrix.shape[1]))
        return own, own.transposed

    @cached_property
    def inside(self) -> Bool[Tensor, "S S"]:
        """The grid's centres in whole pixels, of which lines within the disc are interpolated."""
        away = coordinate_grid((self.side, self.side)).norm(dim=1).reshape(self.side, self.side)
        pixels = self._blocks(away <= 1 + 2 / self.side).any(3).any(1)
        return pixels.repeat_interleave(self.times, 0).repeat_interleave(self.times, 1).to(self.device)

    @cached_property
    def square_norm(self) -> float:
        """The largest eigenvalue of A^T A."""
        forward, backward = self.matrices
        vector = torch.ones(forward.shape[1], 1, device=self.device)
        for _ in range(_NORM_STEPS):
            vector = _product(backward, _product(forward, vector))
            size = float(vector.norm())
            vector /= size
        return 1.02 * size

    @cached_property
    def prior(self) -> tuple[Float[Tensor, "C 1"], Float[Tensor, "C q"], Float[Tensor, "q 1"]]:
        """Mean, principal axes and variances along them of the pixels' values in the disc."""
        space = subspace(self.model.dictionary, self.model.require_prior(), self.model.coords)
        mean, basis = space.mean.to(self.device), space.basis[:, 0].double().to(self.device)
        basis = basis * self.inside[:: self.times, :: self.times].flatten()[:, None]
        variances, axes = torch.linalg.eigh(basis.t() @ basis)
        kept = variances > 1e-9 * variances[-1]
        columns = basis @ (axes[:, kept] / variances[kept].sqrt())
        return mean, columns.float(), variances[kept, None].float()

    def _blocks(self, values: Tensor) -> Tensor:
        return values.unflatten(0, (self.pixels, self.times)).unflatten(2, (self.pixels, self.times))

    def means(self, values: Float[Tensor, "S S T"]) -> Float[Tensor, "C T"]:
        """P."""
        return self._blocks(values).mean((1, 3)).flatten(0, 1)

    def spread(self, pixels: Float[Tensor, "C T"]) -> Float[Tensor, "S S T"]:
        """Each pixel's value at all of its centres in the disc."""
        side = self.pixels
        square = pixels.unflatten(0, (side, 1, side, 1)).expand(side, self.times, side, self.times, -1)
        return square.reshape(self.side, self.side, -1) * self.inside[..., None]

    def measure(self, values: Float[Tensor, "G T"]) -> Float[Tensor, "M T"]:
        """Line integrals of the values of the grid's pixels."""
        return _product(self.matrices[0], values)

    def prepare(self) -> None:
        """Compute what depends on the geometry alone, unless it has been done."""
        _ = self.matrices, self.square_norm, self.prior

    @torch.no_grad()
    @full_precision()
    def solve(
        self,
        measured: Float[Tensor, "T M"],
        deviation: Float[Tensor, "T M"],
        beside: Float[Tensor, "T"],
        start: Float[Tensor, "T C"],
        variation: float = VARIATION,
    ) -> Found:
        """Find T slices.

        Args:
            measured: line integrals, view by view.
            deviation: of their noise; what the grid itself errs by is added.
            beside: s, of each slice.
            start: values of the dictionary's pixels to begin with; a constant is tried, too.
            variation: lambda.
        """
        forward, backward = self.matrices
        mean, axes, variances = self.prior
        y, s2 = measured.t().to(self.device), beside.to(self.device).square()
        root = (deviation.t().to(self.device).square() + self.pixel_error**2).rsqrt()
        weight = root.square()
        image = self._start(y, weight, start.to(self.device))
        # One step size for each slice, a share of the duals' for each of the three terms.
        primal = _PACE / (self.square_norm * weight.mean(0)).sqrt()
        data = 1 / (3 * primal * self.square_norm * weight.amax(0))
        edges, box = 1 / (3 * primal * 8), 1 / (3 * primal)
        step = primal / self.times**2  # of the pixels' means
        off = 1 / (1 + step / s2) - 1
        along = 1 / (1 + step / (variances + s2)) - 1 - off
        inside = self.inside[..., None]
        ahead = image
        lines, bounds = torch.zeros_like(y), torch.zeros_like(image)
        down, right = torch.zeros_like(image[1:]), torch.zeros_like(image[:, 1:])
        below, beyond = (inside[1:] & inside[:-1]), (inside[:, 1:] & inside[:, :-1])
        done = 0
        for done in range(1, _STEPS + 1):
            lines = (lines + data * root * (_product(forward, ahead.flatten(0, 1)) - y)) / (1 + data)
            descent = _product(backward, root * lines).unflatten(0, image.shape[:2])
            if variation > 0:
                down += edges * (ahead[1:] - ahead[:-1]) * below
                right += edges * (ahead[:, 1:] - ahead[:, :-1]) * beyond
                length = torch.zeros_like(image)
                length[:-1] += down.square()
                length[:, :-1] += right.square()
                shrink = variation / length.sqrt().clamp_min(variation)
                down *= shrink[:-1]
                right *= shrink[:, :-1]
                descent[1:] += down
                descent[:-1] -= down
                descent[:, 1:] += right
                descent[:, :-1] -= right
            bounds = bounds + box * ahead
            bounds -= box * (bounds / box).clamp(0, 1)
            before, image = image, (image - primal * (descent + bounds)) * inside
            apart = self.means(image) - mean
            image = image + self.spread(off * apart + axes @ (along * (axes.t() @ apart)))
            change = image - before
            ahead = image + change
            if done % _CHECK == 0 and float(change.square().mean((0, 1)).amax().sqrt()) < _ENOUGH:
                break
        error = _product(forward, image.flatten(0, 1)) - y
        return Found(image.clamp(0, 1).permute(2, 0, 1).contiguous(), error.square().mean(0), done)

    def _start(
        self, y: Float[Tensor, "M T"], weight: Float[Tensor, "M T"], pixels: Float[Tensor, "T C"]
    ) -> Float[Tensor, "S S T"]:
        """The pixels' values, or the constant that fits best, whichever the scans say less against."""
        forward, _ = self.matrices
        given = self.spread(pixels.t().clamp(0, 1))
        ones = self.inside.float()[..., None].expand_as(given)
        lengths = _product(forward, ones.flatten(0, 1))
        level = (weight * lengths * y).sum(0) / (weight * lengths.square()).sum(0).clamp_min(1e-12)
        even = ones * level.clamp(0, 1)
        misfits = [(weight * (_product(forward, each.flatten(0, 1)) - y).square()).sum(0) for each in (given, even)]
        return torch.where(misfits[0] <= misfits[1], given, even)


def _product(matrix: SparseRows, vectors: Float[Tensor, "c T"]) -> Float[Tensor, "r T"]:
    return matrix(vectors.t()).t()
