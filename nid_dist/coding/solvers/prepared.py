"""A dictionary reduced once for a measurement that many signals share, so that a new signal costs two small products.

The reduction of a signal is linear in it: what `reduce_problem` makes of unit impulses is the matrix of that map.
"""

from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.coding.solvers.problem import Problem, reduce_problem
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Measurement

_NUMBERS = 2**22  # of the map, at most; a signal of more measurements is better reduced in passes over them
_EXPERTS = 4096  # whose inner products are kept


class Prepared:
    """`reduce_problem` for many batches of signals.

    Args:
        dictionary: frozen; all n experts must be here, and none may change while this is used.
        measurement: R, the same for all signals.
    """

    def __init__(self, dictionary: Dictionary, measurement: Measurement) -> None:
        self.dictionary, self.measurement = dictionary, measurement
        self._map: Problem | None = None

    @torch.no_grad()
    def problem(self, measured: Float[Tensor, "T M d"]) -> Problem:
        """Reduce some signals.

        Args:
            measured: what R gave for each.

        Returns:
            What `reduce_problem` returns, up to rounding; where the dictionary is small, with the inner products of
            all atoms.
        """
        numbers = measured.shape[1] * measured.shape[2]
        if numbers**2 > _NUMBERS:
            return reduce_problem(self.dictionary, self.measurement, measured)
        if self._map is None:
            impulses = torch.eye(numbers, dtype=measured.dtype, device=measured.device)
            self._map = reduce_problem(
                self.dictionary, self.measurement, impulses.unflatten(1, (measured.shape[1], measured.shape[2]))
            )
        # The means, too, are linear in what was measured; and what the constant measures is reduced to nothing.
        flat = measured.flatten(1)
        targets, means = flat @ self._map.targets, flat @ self._map.target_means
        energy = flat.double().square().sum(1) / measured.shape[1]
        energy = (energy - self._map.constant.double() * means.double().square().sum(1)).to(flat.dtype)
        return replace(
            self._map,
            targets=targets,
            target_means=means,
            unreachable=(energy - targets.square().sum(1)).clamp_min(0),
            gram=self._gram,
        )

    @cached_property
    def _gram(self) -> Float[Tensor, "n n"] | None:
        assert self._map is not None
        atoms = self._map.atoms
        return atoms @ atoms.t() if len(atoms) <= _EXPERTS else None
