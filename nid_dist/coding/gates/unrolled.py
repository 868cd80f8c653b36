"""The unrolled gate: a few thresholding iterations with learned operators (LISTA, Gregor and LeCun 2010).

A plain network guesses a support badly, since overlapping atoms compete for the same part of a signal. Each iteration
here explains what the code so far leaves over, as iterative thresholding does; what LISTA adds is that the operators,
steps, momenta and thresholds are learned, so that a handful of iterations is enough. The operators start from the
dictionary's own atoms (`synchronise`) and belong to the gate: it stays data-parallel and needs no expert to run.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.coding.gates.base import GateOutput, as_image
from nid_dist.config.schema import Gate as GateConfig

_REFINEMENTS = 6
_RELATIVE_RIDGE = 0.75
_CORRECTION_UNIT = 0.1


class UnrolledGate(nn.Module):
    """Soft-thresholding iterations to find the support, gradient iterations on it to find the values."""

    synthesis: Tensor
    norms: Tensor
    atom_means: Tensor
    pseudo_inverse: Tensor

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
        self.support, self.experts, self.grid_shape = support, experts, grid_shape
        numbers = grid_shape[0] * grid_shape[1] * channels
        synthesis = torch.randn(experts, numbers, generator=generator) * numbers**-0.5
        self.register_buffer("synthesis", synthesis)  # unit atoms: the dictionary's own, hence not trained here
        self.register_buffer("norms", torch.ones(experts))
        self.register_buffer("atom_means", torch.zeros(experts, channels))
        self.register_buffer("pseudo_inverse", synthesis.clone())
        # What is learned of the analysis operator, in units in which one learning rate suits any number of pixels: its
        # entries are of size P^(-1/2), and an unscaled step of Adam would swamp them.
        self.correction = nn.Parameter(torch.zeros(experts, numbers))
        self.steps = nn.Parameter(torch.ones(config.iterations))
        # Between iterations: what the last one proposes is not thresholded, and the first has no past.
        self.momenta = nn.Parameter(torch.full((config.iterations - 1,), 0.5))
        self.thresholds = nn.Parameter(torch.ones(config.iterations - 1))
        self.refine_steps = nn.Parameter(torch.ones(_REFINEMENTS))
        self.refine_momenta = nn.Parameter(torch.full((_REFINEMENTS - 1,), 0.3))

    @torch.no_grad()
    def synchronise(self, atoms: Float[Tensor, "n P"], atom_means: Float[Tensor, "n d"], analysis: bool = True) -> None:
        """Take the operators from the dictionary's atoms on the gate's grid_shape.

        The analysis operator is the ridge-regularised pseudo-inverse of the synthesis, scaled so that the largest
        eigenvalue of both together is 1: a unit step is stable for any dictionary, however coherent, and exact for an
        orthonormal one. The atoms are centred, inner products being means over coordinates (as in `Problem`), P = C *
        d; `analysis` says whether what was learned of that operator starts anew.
        """
        norms = atoms.norm(dim=1)
        self.norms.copy_(norms.maximum(1e-6 * norms.max()).clamp_min(1e-30))
        self.synthesis.copy_(atoms / self.norms[:, None])
        self.atom_means.copy_(atom_means)
        if not analysis:
            return
        unit = self.synthesis.double()
        few = unit.shape[0] <= unit.shape[1]
        # (S^T S + r)^-1 S^T = S^T (S S^T + r)^-1: the smaller system of the two.
        system = unit @ unit.t() if few else unit.t() @ unit
        ridge = _RELATIVE_RIDGE * (system.diagonal().sum().item() / unit.shape[1] + 1e-30)
        largest = max(torch.linalg.eigvalsh(system)[-1].item(), 1e-30)
        system.diagonal().add_(ridge)
        inverse = torch.linalg.solve(system, unit) if few else torch.linalg.solve(system, unit.t()).t()
        self.pseudo_inverse.copy_((1 + ridge / largest) * inverse)
        self.correction.zero_()

    @property
    def analysis(self) -> Float[Tensor, "n P"]:
        """The learned analysis operator."""
        return self.pseudo_inverse + _CORRECTION_UNIT * self.correction.shape[1] ** -0.5 * self.correction

    def forward(self, values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"]) -> GateOutput:
        """Codes with exactly k non-zero logits, the coefficients themselves.

        Raises:
            UserError: for signals of another grid_shape.
        """
        as_image(values, self.grid_shape)  # refuses signals of another grid
        mean, analysis = values.mean(1), self.analysis
        signals = ((values - mean[:, None]) * values.shape[1] ** -0.5).flatten(1)
        proposal = self.steps[0] * (signals @ analysis.t())
        code = torch.zeros_like(proposal)
        for step, momentum, threshold in zip(self.steps[1:], self.momenta, self.thresholds, strict=True):
            before, code = code, self._shrink(proposal, threshold)
            ahead = code + momentum * (code - before)
            proposal = ahead + step * ((signals - ahead @ self.synthesis) @ analysis.t())
        chosen = proposal.detach().abs().topk(self.support, dim=1).indices
        mask = torch.zeros_like(proposal).scatter(1, chosen, 1.0)
        before = code = proposal * mask
        for step, momentum in zip(self.refine_steps, (0.0, *self.refine_momenta), strict=True):
            ahead = code + momentum * (code - before)
            before, code = code, ahead + step * mask * ((signals - ahead @ self.synthesis) @ analysis.t())
        logits = code / self.norms
        return GateOutput(logits, mean - logits @ self.atom_means)

    def _shrink(self, proposal: Float[Tensor, "T n"], threshold: Tensor) -> Float[Tensor, "T n"]:
        if self.support == self.experts:
            return proposal
        # Relative to the largest magnitude left out, so that it adapts to each signal's scale and about k survive.
        level = proposal.detach().abs().topk(self.support + 1, dim=1).values[:, -1:]
        return torch.sign(proposal) * torch.relu(proposal.abs() - level * threshold)
