"""The pursuit gate: a few blocks of matching pursuit on the dictionary's atoms, the first by learned expectations.

A network that guesses all of a support at once is worse than a fixed basis, in which the largest coefficients are the
best ones: overlapping atoms compete for the same part of a signal. So the gate does what the solver does (`omp`), in
fewer blocks, and makes up for them by what it knows. Its first block cannot see yet what the others will explain; there
it expects the code that is likeliest for atoms used as much as they are (a Wiener filter), whose variances are learned
from solved codes. And it chooses more atoms than are kept, and leaves out those that turn out to be needed least.

The operators are copies of the dictionary's atoms (`synchronise`): the gate stays data-parallel and needs no expert.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.code import Code
from nid_dist.coding.gates.base import GateOutput, as_image
from nid_dist.coding.solvers.omp import block_sizes
from nid_dist.coding.solvers.pursuit import FetchedAtoms, prune, pursue
from nid_dist.config.schema import Gate as GateConfig
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision

_SPARE = 0.25  # atoms chosen besides the k that are kept, as a share of them
_RIDGE = 1e-5  # of the refits, relative to the squared norm of atoms
_NOISE = 0.05  # variance of what no code explains, relative to that of signals per number
_UNUSED = 1e-3  # variance of a coefficient that is never used, relative to the mean
_UNIT = 4.0  # of the learned logarithms: a usual rate brings them from one end to the other in a few hundred steps
_FLOATS = 2**25  # of the atoms in supports and of their systems at a time


class PursuitGate(nn.Module):
    """Codes of k coefficients, the best on supports found in `config.iterations` blocks."""

    synthesis: Tensor
    analysis: Tensor
    norms: Tensor
    atom_means: Tensor

    def __init__(
        self,
        config: GateConfig,
        *,
        experts: int,
        channels: int,
        grid_shape: tuple[int, int],
        support: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.support, self.grid_shape = support, grid_shape
        chosen = min(experts, support + math.ceil(_SPARE * support))
        # Of one block there would be nothing to leave out: its values say too little.
        self.sizes = block_sizes(chosen if config.iterations > 1 else support, config.iterations)
        numbers = grid_shape[0] * grid_shape[1] * channels
        synthesis = torch.randn(experts, numbers, generator=generator) * numbers**-0.5
        self.register_buffer("synthesis", synthesis)  # unit atoms
        self.register_buffer("analysis", synthesis.clone())  # what makes a signal its expected code
        self.register_buffer("norms", torch.ones(experts))
        self.register_buffer("atom_means", torch.zeros(experts, channels))
        self.spread = nn.Parameter(torch.zeros(experts))

    @property
    def log_variances(self) -> Float[Tensor, "n"]:
        """Logarithms of the coefficients' learned variances, relative to their mean."""
        return _UNIT * self.spread

    @torch.no_grad()
    @full_precision()
    def synchronise(self, atoms: Float[Tensor, "n P"], atom_means: Float[Tensor, "n d"]) -> None:
        """Take the operators from the dictionary's atoms on the gate's grid_shape.

        The atoms are centred, inner products being means over coordinates (as in `Problem`), P = C * d. A signal
        y = S^T a + e of independent a with variances V has the expected code V S (S^T V S + r)^-1 y.
        """
        norms = atoms.norm(dim=1)
        self.norms.copy_(norms.maximum(1e-6 * norms.max()).clamp_min(1e-30))
        self.synthesis.copy_(atoms / self.norms[:, None])
        self.atom_means.copy_(atom_means)
        level = self.log_variances.double()
        deviations = (0.5 * (level - level.max())).exp() * self.norms.double() / self.norms.max().double()
        scaled = deviations[:, None] * self.synthesis.double()
        few = scaled.shape[0] <= scaled.shape[1]
        # B (B^T B + r)^-1 = (B B^T + r)^-1 B with B = V^(1/2) S: the smaller system of the two.
        system = scaled @ scaled.t() if few else scaled.t() @ scaled
        system.diagonal().add_(_NOISE * scaled.square().sum() / scaled.shape[1] + 1e-30)
        factor = torch.linalg.cholesky_ex(system)[0]
        expected = torch.cholesky_solve(scaled, factor) if few else torch.cholesky_solve(scaled.t(), factor).t()
        self.analysis.copy_(deviations[:, None] * expected)

    def unlikelihood(self, solved: Code, code_square: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """How unlikely solved codes are: what is to be made small by learning.

        The mean over experts of the negative logarithm of a normal density, up to a constant; least where the variances
        are those of the coefficients.

        Args:
            code_square: the mean square of all coefficients, zeros included, to which variances are relative.
        """
        assert solved.indices is not None
        squares = solved.values.detach().square().flatten() / max(1, solved.signals)
        energy = torch.zeros_like(self.spread).scatter_add(0, solved.indices.flatten(), squares.to(self.spread.dtype))
        relative = energy / code_square.clamp_min(1e-30) + _UNUSED
        return 0.5 * (self.log_variances + relative * (-self.log_variances).exp()).mean()

    @torch.no_grad()
    @full_precision()
    def forward(self, values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"]) -> GateOutput:
        """Codes with at most k non-zero logits, the coefficients themselves; without gradients.

        Raises:
            UserError: for signals of another grid_shape.
        """
        as_image(values, self.grid_shape)  # refuses signals of another grid
        values = values.to(self.synthesis.dtype)
        mean = values.mean(1)
        signals = ((values - mean[:, None]) * values.shape[1] ** -0.5).flatten(1)
        most = sum(self.sizes)
        each = floats_at_once(values.device, _FLOATS) // (most * (signals.shape[1] + 4 * most))
        codes = torch.cat([self._codes(part) for part in signals.split(max(1, each))])
        logits = codes / self.norms
        return GateOutput(logits, mean - logits @ self.atom_means)

    def _codes(self, signals: Float[Tensor, "T P"]) -> Float[Tensor, "T n"]:
        """Coefficients of unit atoms."""
        atoms = _Atoms(signals, self.synthesis, self.analysis, sum(self.sizes))
        added = torch.full((), _RIDGE, dtype=torch.float64, device=signals.device)
        found = prune(pursue(atoms, self.sizes, added), self.support)
        codes = signals.new_zeros(len(signals), len(self.synthesis))
        return codes.scatter(1, found.indices, found.values.to(codes.dtype))


class _Atoms(FetchedAtoms):
    """The gate's atoms: for the first block by the code that is expected, then by what is left over."""

    def __init__(
        self, targets: Float[Tensor, "T P"], synthesis: Float[Tensor, "n P"], analysis: Float[Tensor, "n P"], most: int
    ) -> None:
        super().__init__(targets, len(synthesis), most)
        self._synthesis, self._scores = synthesis, analysis

    def fetch(self, chosen: Int[Tensor, "T s"]) -> Float[Tensor, "T s P"]:
        self._scores = self._synthesis
        return self._synthesis[chosen]

    def scorer(self, rest: Float[Tensor, "T P"]) -> Callable[[slice], Float[Tensor, "T p"]]:
        operator = self._scores
        return lambda part: (rest @ operator[part].t()).abs_()
