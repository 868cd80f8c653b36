"""The mixture-of-experts layers that DeepSpeed and fairscale ship, put to the nearest same job.

What differs from nid_dist's:
- Their gate chooses per token from the token's features, with softmax weights and not signed codes. Tokens are the
  features phi(x) of every signal's coordinates, T * C of width h, and equal for all signals, as are then the experts
  chosen: these layers do not represent different signals. Every token is sent all the same.
- Experts are `Linear(h, h)`, as both want equal widths; a result has h numbers, not d.
- k = 2, the only one that fairscale has.
- Messages have n * capacity rows, and the capacity is that of the most popular expert (DeepSpeed with
  `drop_tokens=False`), or always 2 T C / n, dropping what does not fit (fairscale). So that nothing is dropped and
  nothing padded, their gates are given weights by which every expert is chosen equally often; a random gate made
  DeepSpeed's messages 40 times as large.
- The balancing loss that they also compute is not differentiated.

Only here does something outside `nid_dist/parallel/` import these libraries: they are what is measured.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nid_dist.parallel.process_group_world import ProcessGroupWorld

# Logits beyond the noise that both libraries add for the second choice, but not so far apart that softmax weights, or
# products of two, are denormal numbers, with which the processor is slow.
_FIRST, _SECOND = 24.0, 22.0


class DeepSpeedLayer(nn.Module):
    """DeepSpeed's `MoE` with k = 2 and nothing dropped, its n experts shared by all ranks.

    `features` are phi at the coordinates that tokens will have, the same on all ranks.
    """

    def __init__(self, world: ProcessGroupWorld, experts: int, features: Float[Tensor, "C h"]) -> None:
        from deepspeed.moe.layer import MoE

        super().__init__()
        width = features.shape[1]
        self.layer = MoE(width, nn.Linear(width, width), experts, world.size, k=2, drop_tokens=False, min_capacity=0)
        self.layer.set_deepspeed_parallelism()
        self.to(features.device)
        _balance(self.layer.deepspeed_moe.gate.wg.weight, features)

    def forward(self, tokens: Float[Tensor, "tokens h"]) -> Float[Tensor, "tokens h"]:
        """The layer's results."""
        results: Tensor = self.layer(tokens)[0]
        return results

    def dropped(self, tokens: Float[Tensor, "tokens h"]) -> float:
        """The share of all pairs of token and expert that is left out."""
        return 0.0


class FairscaleLayer(nn.Module):
    """fairscale's `MOELayer` with its `Top2Gate`; n is a divisor of the number of tokens."""

    def __init__(self, world: ProcessGroupWorld, experts: int, features: Float[Tensor, "C h"]) -> None:
        from fairscale.nn.moe import MOELayer, Top2Gate

        super().__init__()
        width = features.shape[1]
        self.gate = Top2Gate(width, experts)
        local = nn.ModuleList([nn.Linear(width, width) for _ in range(experts // world.size)])
        self.layer = MOELayer(self.gate, local, world.expert_group)
        self.to(features.device)
        _balance(self.gate.wg.weight, features)

    def forward(self, tokens: Float[Tensor, "tokens h"]) -> Float[Tensor, "tokens h"]:
        """The layer's results."""
        # It wants three axes, the first a multiple of the local experts, and then flattens the first two.
        results: Tensor = self.layer(tokens.unflatten(0, (self.layer.num_local_experts, -1)))
        return results.flatten(0, 1)

    def dropped(self, tokens: Float[Tensor, "tokens h"]) -> float:
        """The share of all pairs of token and expert that is left out."""
        return 1 - float(self.gate(tokens)[2].sum()) / (2 * len(tokens))


@contextmanager
def counted_all_to_all(ranks: int) -> Iterator[list[int]]:
    """Count the bytes of each all-to-all that leave this rank, whoever calls it; they go to the list."""
    import torch.distributed as dist

    original, sent = dist.all_to_all_single, list[int]()

    def counting(output: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        sent.append(input.numel() * input.element_size() * (ranks - 1) // ranks)
        return original(output, input, *args, **kwargs)

    dist.all_to_all_single = counting
    try:
        yield sent
    finally:
        dist.all_to_all_single = original


@torch.no_grad()
def _balance(weight: Float[Tensor, "n h"], features: Float[Tensor, "C h"]) -> None:
    """Make a gate choose each of n experts equally often as first and as second, where n divides C."""
    experts, coordinate = len(weight), torch.arange(len(features), device=features.device)
    logits = torch.zeros(len(features), experts, dtype=torch.float64, device=features.device)
    logits[coordinate, coordinate % experts] = _FIRST
    logits[coordinate, (coordinate + 1) % experts] = _SECOND
    weight.copy_((torch.linalg.pinv(features.double()) @ logits).t())
