"""Least squares with weights of each signal's own: its atoms as they are measured, and the constant beside them."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.coding.solvers.problem import measured_atoms
from nid_dist.coding.solvers.ridge import SingularSystem
from nid_dist.coding.solvers.statistics import constant_measured
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Measurement

KEPT = 2**26
"""Measured atoms that are kept; more are evaluated anew in every pass."""


class Design:
    """R b_j for the support of each signal, and R 1 in each channel, as the columns of T least-squares problems."""

    def __init__(
        self,
        dictionary: Dictionary,
        measurement: Measurement,
        measured: Float[Tensor, "T M d"],
        indices: Int[Tensor, "T k"],
    ) -> None:
        self.measured, self.indices = measured, indices
        self._source = dictionary, measurement
        self._constant = constant_measured(measurement, measured)
        self._kept = list(self._evaluate()) if indices.numel() * measured.shape[1] * measured.shape[2] <= KEPT else None

    def solve(self, weights: Float[Tensor, "T M"], ridge: float) -> tuple[Float[Tensor, "T k"], Float[Tensor, "T d"]]:
        """Minimise sum_i w_i |f(i) - y_i|^2 + ridge * (mean squared norm of the support's atoms) * |alpha|^2.

        Coefficients and biases are in float64.

        Raises:
            SingularSystem: when a signal's system is.
        """
        support, channels = self.indices.shape[1], self.measured.shape[2]
        size = support + channels
        system = weights.new_zeros(len(weights), size, size, dtype=torch.float64)
        right = weights.new_zeros(len(weights), size, dtype=torch.float64)
        for part, columns in self._parts():
            scaled = columns * weights[:, None, part, None].double()
            system += scaled.flatten(2) @ columns.flatten(2).transpose(1, 2)
            right += torch.einsum("tpcd,tcd->tp", scaled, self.measured[:, part].double())
        diagonal = system.diagonal(dim1=1, dim2=2)
        energy = diagonal[:, :support].mean(1, keepdim=True)
        diagonal[:, :support] += ridge * torch.where(energy > 0, energy, torch.ones_like(energy))
        # A signal without measurements has no bias either: zero, rather than a singular system.
        diagonal[:, support:] += 1e-12 * diagonal[:, support:].clamp_min(1e-12)
        factor, failed = torch.linalg.cholesky_ex(system)
        if failed.any():
            raise SingularSystem(int(failed.nonzero()[0, 0]))
        found = torch.cholesky_solve(right[..., None], factor)[..., 0]
        return found[:, :support], found[:, support:]

    def residuals(self, values: Float[Tensor, "T k"], bias: Float[Tensor, "T d"]) -> Float[Tensor, "T M d"]:
        """R f - y, in float64."""
        found = torch.cat([values, bias], 1).double()
        parts = [torch.einsum("tp,tpcd->tcd", found, columns) for _, columns in self._parts()]
        return torch.cat(parts, 1) - self.measured

    def _parts(self) -> Iterator[tuple[slice, Float[Tensor, "T p C d"]]]:
        return self._evaluate() if self._kept is None else iter(self._kept)

    def _evaluate(self) -> Iterator[tuple[slice, Float[Tensor, "T p C d"]]]:
        dictionary, measurement = self._source
        channels = torch.eye(dictionary.channels, dtype=torch.float64, device=self.measured.device)
        used, places = self.indices.unique(return_inverse=True)
        for part, atoms in measured_atoms(dictionary, measurement, used):
            rows = atoms.double()[:, places].permute(1, 2, 0, 3)
            ones = channels[:, None] * self._constant[part][None, :, None]
            yield part, torch.cat([rows, ones.expand(len(rows), -1, -1, -1)], 1)
