"""The unrolled gate: a few thresholding iterations with learned operators (LISTA, Gregor and LeCun 2010).

A plain network guesses a support badly, since overlapping atoms compete for the same part of a signal. Each iteration
here explains what the code so far leaves over, as iterative thresholding does; what LISTA adds is that the operators,
steps, momenta and thresholds are learned, so that a handful of iterations is enough. The operators start from the
dictionary's own atoms (`synchronise`) and belong to the gate: it stays data-parallel and needs no expert to run.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.coding.gates.base import GateOutput
from nid_dist.config.schema import Gate as GateConfig

_REFINEMENTS = 6
_RELATIVE_RIDGE = 0.75


class UnrolledGate(nn.Module):
    """Soft-thresholding iterations to find the support, gradient iterations on it to find the values.

    Args:
        config: `iterations` is used.
        experts: n.
        channels: d.
        lattice: (H, W) of the signals, C = H * W.
        support: k.
        generator: of the initial operators, before `synchronise`.
    """

    def __init__(
        self,
        config: GateConfig,
        *,
        experts: int,
        channels: int,
        lattice: tuple[int, int],
        support: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.support, self.experts = support, experts
        numbers = lattice[0] * lattice[1] * channels
        synthesis = torch.randn(experts, numbers, generator=generator) * numbers**-0.5
        self.register_buffer("synthesis", synthesis)  # unit atoms: the dictionary's own, hence not trained here
        self.register_buffer("norms", torch.ones(experts))
        self.register_buffer("atom_means", torch.zeros(experts, channels))
        self.analysis = nn.Parameter(synthesis.clone())
        self.steps = nn.Parameter(torch.ones(config.iterations))
        self.momenta = nn.Parameter(torch.full((config.iterations,), 0.5))
        self.thresholds = nn.Parameter(torch.ones(config.iterations))
        self.refine_steps = nn.Parameter(torch.ones(_REFINEMENTS))
        self.refine_momenta = nn.Parameter(torch.full((_REFINEMENTS,), 0.3))

    @torch.no_grad()
    def synchronise(
        self, atoms: Float[Tensor, "n P"], atom_means: Float[Tensor, "n d"], analysis: bool = True
    ) -> None:
        """Take the operators from the dictionary's atoms on the gate's lattice.

        The analysis operator is the ridge-regularised pseudo-inverse of the synthesis, so that a unit step is stable for
        any dictionary, however coherent.

        Args:
            atoms: centred atoms, inner products being means over coordinates (as in `Problem`); P = C * d.
            atom_means: their means per channel.
            analysis: whether the learned analysis operator starts anew.
        """
        norms = atoms.norm(dim=1)
        self.norms.copy_(norms.clamp_min(1e-6 * norms.max()))
        self.synthesis.copy_(atoms / self.norms[:, None])
        self.atom_means.copy_(atom_means)
        if not analysis:
            return
        unit = self.synthesis.double()
        frame = unit.t() @ unit
        frame.diagonal().add_(_RELATIVE_RIDGE * frame.diagonal().mean())
        self.analysis.copy_(torch.linalg.solve(frame, unit.t()).t())

    def forward(self, values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"]) -> GateOutput:
        """Codes with exactly k non-zero logits.

        Args:
            values: signals on the gate's lattice.
            ids: not used.

        Returns:
            Logits (the coefficients themselves) and biases.
        """
        mean = values.mean(1)
        signals = ((values - mean[:, None]) * values.shape[1] ** -0.5).flatten(1)
        code, before = signals.new_zeros(len(signals), self.experts), None
        proposal = code
        for step, momentum, threshold in zip(self.steps, self.momenta, self.thresholds, strict=True):
            ahead = code if before is None else code + momentum * (code - before)
            left = signals if before is None else signals - ahead @ self.synthesis
            proposal = ahead + step * (left @ self.analysis.t())
            before, code = code, self._shrink(proposal, threshold)
        chosen = proposal.detach().abs().topk(self.support, dim=1).indices
        mask = torch.zeros_like(code).scatter(1, chosen, 1.0)
        code = proposal * mask
        before = code
        for step, momentum in zip(self.refine_steps, self.refine_momenta, strict=True):
            ahead = code + momentum * (code - before)
            before, code = code, ahead + step * mask * ((signals - ahead @ self.synthesis) @ self.analysis.t())
        logits = code / self.norms
        return GateOutput(logits, mean - logits @ self.atom_means)

    def _shrink(self, proposal: Float[Tensor, "T n"], threshold: Tensor) -> Float[Tensor, "T n"]:
        # Relative to the largest magnitude left out, so that it adapts to each signal's scale and about k survive.
        level = proposal.detach().abs().topk(min(self.support + 1, self.experts), dim=1).values[:, -1:]
        return torch.sign(proposal) * torch.relu(proposal.abs() - level * threshold)
