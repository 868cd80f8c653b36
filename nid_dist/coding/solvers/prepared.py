"""A dictionary reduced once for a measurement that many signals share, so that a new signal costs a product or two.

The reduction of a signal is linear in it. Of few measurements, what `reduce_problem` makes of unit impulses is the
matrix of that map; of many, such as those of whole images, every channel goes through one matrix of features (linear
heads).
"""

from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.coding.solvers.problem import Problem, factorise, problem_of, reduce_problem
from nid_dist.coding.solvers.statistics import constant_measured, gather_statistics
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.measurements.sampling import Measurement, Sampling
from nid_dist.precision import full_precision

_FLOATS = 2**22  # of the map of all channels, at most
_FEATURES = 2**24  # of the map of one channel; a signal of more measurements is better reduced in passes over them
_EXPERTS = 4096  # whose inner products are kept


class PreparedDictionary:
    """`reduce_problem` for many batches of signals, by a frozen dictionary that must not change meanwhile."""

    def __init__(self, dictionary: Dictionary, measurement: Measurement) -> None:
        self.dictionary, self.measurement = dictionary, measurement
        self._map: Problem | None = None
        self._channel: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    @full_precision()
    def problem(self, measured: Float[Tensor, "T M d"]) -> Problem:
        """What `reduce_problem` returns, up to rounding; of a small dictionary with the inner products of all atoms."""
        size, channels = measured.shape[1:]
        if (size * channels) ** 2 <= _FLOATS:
            if self._map is None:
                impulses = torch.eye(size * channels, dtype=measured.dtype, device=measured.device)
                self._map = reduce_problem(self.dictionary, self.measurement, impulses.unflatten(1, (size, channels)))
            # The means, too, are linear in what was measured; and what the constant measures is reduced to nothing.
            flat = measured.flatten(1)
            targets, means = flat @ self._map.targets, flat @ self._map.target_means
        elif (
            self.dictionary.linear
            and self.dictionary.trunk.out_dim < size <= _FEATURES // self.dictionary.trunk.out_dim
        ):
            along, features = self._analysis(measured[:0])
            means = torch.einsum("m,tmd->td", along, measured)
            targets = torch.einsum("tmd,mj->tdj", measured, features).flatten(1)
        else:
            return reduce_problem(self.dictionary, self.measurement, measured)
        assert self._map is not None
        energy = measured.double().square().sum((1, 2)) / size
        energy = (energy - self._map.constant.double() * means.double().square().sum(1)).to(means.dtype)
        return replace(
            self._map,
            targets=targets,
            target_means=means,
            residual_floor=(energy - targets.square().sum(1)).clamp_min(0),
            gram=self._gram,
        )

    def _analysis(self, none: Float[Tensor, "0 M d"]) -> tuple[Float[Tensor, "M"], Float[Tensor, "M q"]]:
        """What a channel's measurements are multiplied by, for its mean and its reduced numbers."""
        if self._channel is None:
            heads, trunk, size = self.dictionary.experts, self.dictionary.trunk, self.measurement.size
            assert isinstance(heads, LinearHeads)
            known = gather_statistics(trunk, self.measurement, none)
            factor, inverse = factorise(known.gram)
            self._map = problem_of(heads, known, factor, none.new_zeros(0, none.shape[2], len(inverse)))
            constant = constant_measured(self.measurement, none)
            features = none.new_zeros(size, len(inverse))
            for part, phi in self.measurement.chunks(trunk, max(1, _FEATURES // trunk.out_dim)):
                centred = phi.double() - constant[part, None] * known.means
                features[part] = (centred @ inverse.t() / size).to(none.dtype)
            self._channel = (constant / size / known.constant).to(none.dtype), features
        return self._channel

    @cached_property
    def _gram(self) -> Float[Tensor, "n n"] | None:
        assert self._map is not None
        atoms = self._map.atoms
        return atoms @ atoms.t() if len(atoms) <= _EXPERTS else None


class LastPrepared:
    """The dictionary prepared for samples on one grid after the other: anew only where the grid changes."""

    def __init__(self, dictionary: Dictionary) -> None:
        self.dictionary = dictionary
        self._last: tuple[Tensor, PreparedDictionary] | None = None

    def at(self, coords: Float[Tensor, "M m"]) -> PreparedDictionary:
        """The dictionary prepared for samples at some coordinates."""
        if self._last is None or not torch.equal(self._last[0], coords):
            self._last = coords, PreparedDictionary(self.dictionary, Sampling(coords))
        return self._last[1]
