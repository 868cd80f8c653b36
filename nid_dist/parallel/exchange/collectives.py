"""Collectives of `torch.distributed` under one name in all its versions."""

from typing import Any

import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


def all_gather(part: Shaped[Tensor, "E *rest"], group: Any = None) -> Shaped[Tensor, "n *rest"]:
    """What every rank of a group (None: all) holds, stacked by rank along the first axis; without gradient."""
    part = part.detach().contiguous()
    whole = part.new_empty(dist.get_world_size(group) * len(part), *part.shape[1:])
    # PyTorch 2.13 renames the second to the first.
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(whole, part, group=group)
    return whole
