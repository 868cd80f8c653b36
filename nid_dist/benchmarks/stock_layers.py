"""The mixture-of-experts layers that DeepSpeed and fairscale ship, put to the nearest same job.

What differs from nid_dist's:
- Their gate chooses per token from the token's features, softmax weights and not signed codes. Tokens are the features
  phi(x) of every signal's coordinates, [T*C, h], and are equal for all signals, as are then the experts chosen: these
  layers do not represent different signals. Every token is sent all the same.
- Experts are `Linear(h, h)`, as both want equal widths; a result has h numbers, not d.
- k = 2, all that both offer.
- Messages have n * capacity rows. DeepSpeed's capacity without dropping is that of its most popular expert; with
  dropping, and always for fairscale's, it is 2*T*C / n, and what does not fit is left out.
- The balancing loss that they also compute is not differentiated.

Only here does something outside `nid_dist/parallel/` import these libraries: they are what is measured.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nid_dist.parallel.process_group_world import ProcessGroupWorld


class StockLayer(nn.Module):
    """One of the layers, from tokens to results.

    Args:
        layer: gives results, or a tuple that begins with them.
        dropped: the share of (token, expert) pairs that the layer leaves out for some tokens.
        leading: length of the first axis that the layer wants, whatever it means to it.
    """

    def __init__(self, layer: nn.Module, dropped: Callable[[Tensor], float], leading: int = 1) -> None:
        super().__init__()
        self.layer, self.dropped, self.leading = layer, dropped, leading

    def forward(self, tokens: Float[Tensor, "tokens h"]) -> Float[Tensor, "tokens h"]:
        """The layer's results."""
        results = self.layer(tokens.unflatten(0, (self.leading, -1)))
        found: Tensor = results[0] if isinstance(results, tuple) else results
        return found.flatten(0, 1)


def deepspeed_layer(world: ProcessGroupWorld, experts: int, width: int, *, drop: bool) -> StockLayer:
    """DeepSpeed's `MoE` with k = 2.

    Args:
        world: all ranks share the experts; of library "deepspeed".
        experts: n.
        width: h.
        drop: whether tokens are dropped beyond a capacity of 2*T*C / n per expert.

    Returns:
        The layer.
    """
    from deepspeed.moe.layer import MoE

    torch.manual_seed(world.rank)
    layer = MoE(width, nn.Linear(width, width), experts, world.size, k=2, drop_tokens=drop, min_capacity=0)
    layer.set_deepspeed_parallelism()
    gate = layer.deepspeed_moe.gate
    _same_gate(gate, world)

    def dropped(tokens: Tensor) -> float:
        _, capacity, *_, counts = gate(tokens, sparse_routes=True)
        return 1 - float(counts.clamp(max=int(capacity)).sum() / counts.sum())

    return StockLayer(layer, dropped)


def fairscale_layer(world: ProcessGroupWorld, experts: int, width: int) -> StockLayer:
    """fairscale's `MOELayer` with its `Top2Gate`, which drops tokens beyond a capacity of 2*T*C / n per expert.

    Args:
        world: all ranks share the experts.
        experts: n, which must divide the number of tokens.
        width: h.

    Returns:
        The layer.
    """
    from fairscale.nn.moe import MOELayer, Top2Gate

    torch.manual_seed(world.rank)
    local = experts // world.size
    gate = Top2Gate(width, experts)
    _same_gate(gate, world)
    layer = MOELayer(gate, nn.ModuleList([nn.Linear(width, width) for _ in range(local)]), world.expert_group)

    def dropped(tokens: Tensor) -> float:
        return 1 - float(gate(tokens)[2].sum() / (2 * len(tokens)))

    return StockLayer(layer, dropped, leading=local)


@contextmanager
def counted_all_to_all(ranks: int) -> Iterator[list[int]]:
    """Count the bytes of each all-to-all that leave this rank, whoever calls it; gives the list that they go to."""
    import torch.distributed as dist

    original, sent = dist.all_to_all_single, []

    def counting(output: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        sent.append(input.numel() * input.element_size() * (ranks - 1) // ranks)
        return original(output, input, *args, **kwargs)

    dist.all_to_all_single = counting
    try:
        yield sent
    finally:
        dist.all_to_all_single = original


def _same_gate(gate: nn.Module, world: ProcessGroupWorld) -> None:
    for parameter in gate.parameters():
        world.replicate(parameter, sharded=False)
