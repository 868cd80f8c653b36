"""Least squares with weights of each signal's own: its atoms as they are measured, and the constant beside them."""

from collections.abc import Iterator
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.coding.solvers.problem import measured_atoms
from nid_dist.coding.solvers.statistics import constant_measured
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Measurement
from nid_dist.memory import floats_at_once

KEPT = 2**26
"""Measured atoms that are kept; more are evaluated anew in every pass."""


class MeasuredAtoms:
    """R b_j of a frozen dictionary and R 1, for one fit after the other."""

    def __init__(self, dictionary: Dictionary, measurement: Measurement, like: Float[Tensor, "T M d"]) -> None:
        self.dictionary, self.measurement = dictionary, measurement
        self.constant = constant_measured(measurement, like)
        floats = dictionary.num_experts * like.shape[1] * like.shape[2]
        self._few = floats <= floats_at_once(like.device, KEPT)

    @cached_property
    def every(self) -> Float[Tensor, "n M d"] | None:
        """All of them, kept from when they are first asked for; None: they are too many."""
        if not self._few:
            return None
        parts = [part for _, part in measured_atoms(self.dictionary, self.measurement)]
        return torch.cat(parts).transpose(0, 1).contiguous()

    def rows(self, indices: Int[Tensor, "T k"]) -> Iterator[tuple[slice, Float[Tensor, "T k P d"]]]:
        """Each signal's atoms, some measurements at a time."""
        every = self.__dict__.get("every")
        if every is not None:
            yield slice(0, self.measurement.size), every[indices]
            return
        chosen, places = self._chosen(indices)
        for part, atoms in measured_atoms(self.dictionary, self.measurement, chosen):
            yield part, atoms[:, places].permute(1, 2, 0, 3)

    def _chosen(self, indices: Int[Tensor, "T k"]) -> tuple[Int[Tensor, "U"] | None, Int[Tensor, "T k"]]:
        """What to evaluate, None: all, and where in it each signal's atoms are."""
        if len(indices) and (len(indices) == 1 or indices.stride(0) == 0):  # one support for all signals
            return indices[0], torch.arange(indices.shape[1], device=indices.device).expand_as(indices)
        if indices.device.type == "cpu":
            return indices.unique(return_inverse=True)
        # How many differ is not asked of a GPU.
        if indices.numel() >= self.dictionary.num_experts:
            return None, indices
        return indices.flatten(), torch.arange(indices.numel(), device=indices.device).view_as(indices)


class Design:
    """R b_j for the support of each signal, and R 1 in each channel, as the columns of T least-squares problems."""

    def __init__(
        self,
        atoms: MeasuredAtoms,
        measured: Float[Tensor, "T M d"],
        indices: Int[Tensor, "T k"],
    ) -> None:
        self.measured, self.indices, self._atoms = measured, indices, atoms
        few = indices.numel() * measured.shape[1] * measured.shape[2] <= floats_at_once(measured.device, KEPT)
        self._kept = list(self._evaluate()) if few else None

    def solve(self, weights: Float[Tensor, "T M"], ridge: float) -> tuple[Float[Tensor, "T k"], Float[Tensor, "T d"]]:
        """Minimise sum_i w_i |f(i) - y_i|^2 + ridge * (mean squared norm of the support's atoms) * |alpha|^2.

        Coefficients and biases are in float64, and not numbers for a signal whose system is singular.
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
        found = torch.cholesky_solve(right[..., None], factor)[..., 0].masked_fill(failed[:, None] > 0, torch.nan)
        return found[:, :support], found[:, support:]

    def residuals(self, values: Float[Tensor, "T k"], bias: Float[Tensor, "T d"]) -> Float[Tensor, "T M d"]:
        """R f - y, in float64."""
        found = torch.cat([values, bias], 1).double()
        parts = [torch.einsum("tp,tpcd->tcd", found, columns) for _, columns in self._parts()]
        return torch.cat(parts, 1) - self.measured

    def _parts(self) -> Iterator[tuple[slice, Float[Tensor, "T p C d"]]]:
        return self._evaluate() if self._kept is None else iter(self._kept)

    def _evaluate(self) -> Iterator[tuple[slice, Float[Tensor, "T p C d"]]]:
        channels = torch.eye(self.measured.shape[2], dtype=torch.float64, device=self.measured.device)
        for part, rows in self._atoms.rows(self.indices):
            ones = channels[:, None] * self._atoms.constant[part][None, :, None]
            yield part, torch.cat([rows.double(), ones.expand(len(rows), -1, -1, -1)], 1)
