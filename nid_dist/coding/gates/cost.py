"""What a gate costs: its size, operations and memory, for any number of experts, without making it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nid_dist.coding.gates import make_gate
from nid_dist.config.schema import Config


@dataclass(frozen=True)
class GateCost:
    """A gate's size, and what a batch costs it."""

    parameters: int = 0  # numbers trained
    buffers: int = 0  # numbers held besides
    largest: int = 0  # numbers of its largest trained tensor
    forward: int = 0  # floating-point operations of its products
    backward: int = 0  # floating-point operations of their gradients
    kept: int = 0  # bytes that the backward pass needs


def gate_cost(
    config: Config,
    *,
    channels: int,
    grid_shape: tuple[int, ...],
    gate_input: tuple[int, int] | None = None,
    signals: int,
    batch: int,
) -> GateCost:
    """The cost of the gate that a configuration asks for.

    A gate is affine in n in each of these numbers, so two gates of a few experts tell them exactly. `gate_input` are
    rows and columns of what the gate is given of a signal (None: its values on the grid), `batch` are signals at a
    time. The kind `none` costs nothing.
    """
    if config.coding.gate.kind == "none":
        return GateCost()
    gate_input = gate_input or (math.prod(grid_shape), channels)
    rank, experts = config.coding.gate.rank, config.dictionary.experts
    few = 2 if rank is None or rank >= experts else rank + 1  # enough for a last layer of that rank
    if config.coding.gate.kind == "pursuit":
        few = min(experts, 2 * config.coding.support)  # enough for all that it chooses
    sizes = few, few + 1
    less, more = (_measure(config, size, channels, grid_shape, gate_input, signals, batch) for size in sizes)
    at = [a + (experts - few) * (b - a) for a, b in zip(less, more, strict=True)]
    buffers, forward, backward, kept = at[:4]
    return GateCost(sum(at[4:]), buffers, max(at[4:]), forward, backward, kept)


def _measure(
    config: Config,
    experts: int,
    channels: int,
    grid_shape: tuple[int, ...],
    gate_input: tuple[int, int],
    signals: int,
    batch: int,
) -> list[int]:
    """Numbers of buffers, operations forward and backward, bytes kept; then the numbers of each parameter."""
    device = torch.device("meta")  # shapes are enough
    with device:
        gate = make_gate(
            config.coding.gate,
            experts=experts,
            channels=channels,
            grid_shape=grid_shape,
            signals=signals,
            support=config.coding.support if config.coding.gate.kind == "pursuit" else 1,
            generator=torch.Generator(),
        )
    known = {tensor.untyped_storage()._cdata for tensor in (*gate.parameters(), *gate.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage()._cdata) not in known:
            kept[place] = tensor
        return tensor

    values = torch.zeros(batch, *gate_input, device=device)
    ids = torch.zeros(batch, dtype=torch.long, device=device)
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        output = gate(values, ids)
        forward = counter.get_total_flops()
        total = output.logits.sum() + output.bias.sum()
        if total.requires_grad:  # a gate that pursues learns without its output
            total.backward()
    return [
        sum(buffer.numel() for buffer in gate.buffers()),
        forward,
        counter.get_total_flops() - forward,
        sum(tensor.untyped_storage().nbytes() for tensor in kept.values()),
        *(parameter.numel() for parameter in gate.parameters()),
    ]
