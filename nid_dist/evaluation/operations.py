"""What an image costs: the numbers that stand for it, and the multiplications to find and to show it.

Counted on paper, from sizes, in multiplications with an addition (MAC), products only: half of what torch's counter
calls FLOP, against which the tests hold it.
"""

from dataclasses import dataclass

from nid_dist.code import Code
from nid_dist.coding.gates.cost import gate_cost
from nid_dist.dictionary.evaluation import cheaper_strategy
from nid_dist.model import Model
from nid_dist.planning.run import expert_layers, trunk_layers


@dataclass(frozen=True)
class ImageOperations:
    """Multiplications for an image."""

    encode: int  # the gate's, for the codes of all its signals; 0 without a gate
    decode: int  # to evaluate f once at every pixel


def image_operations(model: Model, signals: int, coordinates: int) -> ImageOperations:
    """What an image, of T signals (1, or its patches) of C pixels each, costs a dictionary.

    Coordinates are shared and evaluated once.
    """
    config, channels = model.config.dictionary, model.channels
    trunk = coordinates * sum(inputs * outputs for inputs, outputs in trunk_layers(config))
    width, support, experts = model.dictionary.trunk.out_dim, model.support, model.dictionary.num_experts
    strategy = config.strategy
    if strategy == "auto" and model.dictionary.linear:
        strategy = cheaper_strategy(
            signals=signals,
            coordinates=coordinates,
            support=support,
            experts=experts,
            channels=channels,
            width=width,
            shared=True,
        )
    if model.dictionary.linear and strategy == "merge":
        decode = signals * channels * (support * (width + 1) + coordinates * width)
    else:
        layers = sum(inputs * outputs for inputs, outputs in expert_layers(config, channels))
        used = min(experts, signals * support)
        decode = coordinates * used * layers + signals * support * coordinates * channels
    encode = 0
    if model.gate_reads_signals:
        gate = gate_cost(
            model.config, channels=channels, grid_shape=_two(model.grid_shape), signals=model.signals, batch=1
        )
        encode = signals * gate.forward // 2
    return ImageOperations(encode, trunk + decode)


def stored_numbers(code: Code) -> int:
    """Coefficients that are not zero, detail's too, and biases, of all signals; where they stand is not counted."""
    detail = 0 if code.detail is None else code.detail.numbers
    return int((code.values != 0).sum()) + code.bias.numel() + detail


def _two(grid: tuple[int, ...]) -> tuple[int, int]:
    height, width = grid
    return height, width
