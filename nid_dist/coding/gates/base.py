"""What every gate takes and gives: signals in, one logit per expert and one bias per channel out.

A gate is an `nn.Module` with `forward(values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"]) -> GateOutput`. `values`
are the signals on their shared grid, in [0, 1], rows first; `ids` says which training signal each one is (only a
codebook asks). A gate predicts dense, signed logits; choosing the support from them is `nid_dist/coding/topk.py`.

A gate is made for n `experts`, d `channels`, signals on a `grid_shape` (H, W), layers of some `width`; `signals` is the
number of training signals, and the `generator` that of its initial values; with a `rank` its logits are linear in so
many numbers (None: in all that it computes of a signal).
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from nid_dist.errors import UserError


@dataclass(frozen=True)
class GateOutput:
    """What a gate predicts of T signals."""

    logits: Float[Tensor, "T n"]  # the dense code, one signed number per expert
    bias: Float[Tensor, "T d"]  # beta, one number per channel, in the signals' units


def as_image(values: Float[Tensor, "T C d"], grid_shape: tuple[int, int]) -> Float[Tensor, "T d H W"]:
    """Lay signals on the grid (H, W), rows first, out as images, channels first.

    Raises:
        UserError: when the signals have another number of coordinates than the grid.
    """
    height, width = grid_shape
    if values.shape[1] != height * width:
        raise UserError(
            "coding.gate",
            found=f"signals of {values.shape[1]} coordinates",
            expected=f"the {height} x {width} grid that the gate was made for",
            hint="resize or cut the signals to that size, or fit them with a solver that needs no gate",
        )
    return values.transpose(1, 2).unflatten(2, (height, width))
