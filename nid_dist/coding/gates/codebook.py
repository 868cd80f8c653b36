"""The codebook gate: one trained code per training signal, looked up by its id."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.coding.gates.base import GateOutput
from nid_dist.coding.gates.layers import MID_LEVEL
from nid_dist.dictionary.activations import UnsetLinear
from nid_dist.errors import UserError


class CodebookGate(nn.Module):
    """Codes in the unit ball, N(0, 1/n) at first, and biases, as rows of two tables.

    With a `rank` below n the table holds so many numbers of a signal, which one layer for all makes codes of.
    """

    def __init__(
        self, *, experts: int, channels: int, signals: int, generator: torch.Generator, rank: int | None = None
    ) -> None:
        super().__init__()
        held, self.linear = experts, None
        if rank is not None and rank < experts:
            held, self.linear = rank, UnsetLinear(rank, experts)
            with torch.no_grad():
                self.linear.weight.normal_(0, experts**-0.5, generator=generator)
                self.linear.bias.zero_()
        self.codes = nn.Parameter(torch.empty(signals, held).normal_(0, held**-0.5, generator=generator))
        self.biases = nn.Parameter(torch.full((signals, channels), MID_LEVEL))

    def forward(self, values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"]) -> GateOutput:
        """Codes of norm 1 at most, and biases, of training signals 0 to signals - 1; the values are not read.

        Raises:
            UserError: for an id that is not a training signal's, where it is on the CPU, and to ask costs nothing.
        """
        if ids.device.type == "cpu":
            self.require_known(ids)
        codes = self.codes[ids] if self.linear is None else self.linear(self.codes[ids])
        return GateOutput(_UnitBall.apply(codes), self.biases[ids])

    def require_known(self, ids: Int[Tensor, "T"]) -> None:
        """Refuse an id that is not a training signal's; the device is waited for.

        Raises:
            UserError: for such an id.
        """
        outside = (ids < 0) | (ids >= len(self.codes))
        if bool(outside.any()):
            raise UserError(
                "coding.gate.kind",
                found=f"codebook, asked for signal {int(ids[outside][0])}",
                expected=f"one of the {len(self.codes)} training signals, the only ones a codebook knows",
                hint="fit new signals with a solver (omp, ridge), or train with a gate that reads the signal (light)",
            )


class _UnitBall(torch.autograd.Function):
    """Projection on the unit ball with the gradient of projected descent: embedding's max_norm without its writes.

    The true derivative has no radial part outside the ball, so that a code that left it could never shrink again. Here
    the gradient passes unchanged, except that outside the ball nothing pulls a code further out.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        norm = rows.norm(dim=1, keepdim=True)
        projected = rows / norm.clamp_min(1)
        ctx.save_for_backward(projected, norm > 1)
        return projected

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
        (grad,) = grads
        direction, outside = ctx.saved_tensors  # type: ignore[attr-defined]
        radial = (grad * direction).sum(1, keepdim=True)
        # Descent moves against the gradient: a negative radial part is a pull outwards.
        outward = radial.clamp_max(0) * outside
        return grad - outward * direction
