"""The merge: sum_j alpha_j row_j of every signal, in several ways that are equal in exact arithmetic."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.errors import UserError
from nid_dist.merging.choice import Merge, Way, chosen_way, kernel_serves, product_is_cheaper
from nid_dist.merging.gather import gathered_sum

__all__ = ["Way", "product_is_cheaper", "weighted_sum"]


def weighted_sum(
    indices: Int[Tensor, "T k"], values: Float[Tensor, "T k"], rows: Float[Tensor, "n p"], way: Way = "auto"
) -> Float[Tensor, "T p"]:
    """sum_j values_j rows[indices_j], differentiable in the values and the rows, which are of one type.

    Under autocast the sum is of fewer bits where `product_is_cheaper`, whatever computes it: ranks that measured
    differently exchange what comes out.

    Args:
        way: `auto` is `product_is_cheaper` on the CPU, and what was measured to be fastest on an accelerator.

    Raises:
        UserError: for the kernel where it cannot run.
    """
    if way == "auto":
        way = chosen_way(_MERGES, indices, values, rows)
    elif way == "kernel" and not kernel_serves(rows):
        raise UserError(
            "dictionary.merge",
            found=f"kernel, for rows of {rows.dtype} on {rows.device}",
            expected="float32 or bfloat16 on a GPU, with Triton installed",
            hint="choose auto, product or gather",
        )
    total = _MERGES[way](indices, values, rows)
    kind = rows.device.type
    short = torch.is_autocast_enabled(kind) and product_is_cheaper(values.shape[1], rows.shape[0])
    return total.to(torch.get_autocast_dtype(kind) if short else rows.dtype)


def _product(indices: Tensor, values: Tensor, rows: Tensor) -> Tensor:
    return values.new_zeros(len(values), len(rows)).scatter_add(1, indices, values) @ rows


def _gather(indices: Tensor, values: Tensor, rows: Tensor) -> Tensor:
    if rows.device.type == "cpu":
        return F.embedding_bag(indices, rows, per_sample_weights=values, mode="sum")
    # Backward, the bag sorts there what it adds up.
    return gathered_sum(indices, values, rows)


def _kernel(indices: Tensor, values: Tensor, rows: Tensor) -> Tensor:
    from nid_dist.merging.kernel import kernel_sum  # needs Triton

    return kernel_sum(indices, values, rows)


_MERGES: dict[Way, Merge] = {"product": _product, "gather": _gather, "kernel": _kernel}
