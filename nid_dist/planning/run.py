"""What is computed, on paper: the sizes of a model, and what a configuration asks a number of ranks for."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch

from nid_dist.coding.gates.cost import GateCost
from nid_dist.coding.solvers.omp import block_sizes
from nid_dist.config.schema import Config, Encoding
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.dictionary.encodings import spline_side
from nid_dist.dictionary.evaluation import cheaper_strategy, chunk_bytes
from nid_dist.merging import product_is_cheaper
from nid_dist.model import Model


def rows(config: Config, world: int) -> int:
    """T, the signals of a rank in a micro-batch, those that only fill it up included."""
    return math.ceil(config.training.batch // config.optimizer.accumulation / world)


def encoding_width(encoding: Encoding, in_dim: int = 2) -> int:
    """Features that an encoding makes of a coordinate."""
    match encoding.kind:
        case "identity":
            return in_dim
        case "positional":
            return in_dim * (1 + 2 * encoding.octaves)
        case "cosine" | "rbf":
            return encoding.features
        case "spline":
            return spline_side(encoding.features, in_dim) ** in_dim
    return 2 * encoding.features


def trunk_layers(dictionary: DictionaryConfig, in_dim: int = 2) -> list[tuple[int, int]]:
    """Inputs and outputs of each shared layer."""
    return list(pairwise([encoding_width(dictionary.encoding, in_dim)] + [dictionary.width] * dictionary.shared_layers))


def feature_width(dictionary: DictionaryConfig, in_dim: int = 2) -> int:
    """h, the features of a coordinate."""
    return dictionary.width if dictionary.shared_layers else encoding_width(dictionary.encoding, in_dim)


def expert_layers(dictionary: DictionaryConfig, channels: int, in_dim: int = 2) -> list[tuple[int, int]]:
    """Inputs and outputs of each private layer of an expert."""
    hidden = [dictionary.private_width] * (dictionary.private_layers - 1)
    return list(pairwise([feature_width(dictionary, in_dim), *hidden, channels]))


def parameters(layers: list[tuple[int, int]]) -> int:
    """Of some linear layers, weights and offsets."""
    return sum((inputs + 1) * outputs for inputs, outputs in layers)


def buffers(config: Config, channels: int, grid_shape: tuple[int, ...]) -> int:
    """Numbers that a model holds besides parameters and gate, whatever its size: grid, encoding, prior."""
    gate = config.coding.gate.model_copy(update={"kind": "none"})
    parts = {
        "dictionary": config.dictionary.model_copy(update={"experts": 1}),
        "coding": config.coding.model_copy(update={"gate": gate}),
    }
    with torch.device("meta"):  # shapes are enough
        model = Model(config.model_copy(update=parts), channels=channels, grid_shape=grid_shape, signals=1)
    return sum(buffer.numel() for buffer in model.buffers())


def merges(dictionary: DictionaryConfig) -> bool:
    """Whether, with several ranks, merged heads come back from the owners rather than values."""
    return dictionary.private_layers == 1 and dictionary.strategy != "combine"


def regresses(config: Config) -> bool:
    """Whether the gate learns from solved codes."""
    return config.coding.gate.kind not in ("none", "unrolled") and config.objective.distill > 0


def predicts(config: Config) -> bool:
    """Whether a gate that learns runs in a step: one that pursues learns from solved codes alone."""
    return config.coding.gate.kind != "pursuit"


def solves(config: Config, mode: str) -> bool:
    """Whether codes are solved in a mode."""
    return mode == "solve" or (mode == "distill" and regresses(config))


def solver_blocks(config: Config) -> list[int]:
    """How many atoms of a code the solver chooses in each round."""
    return block_sizes(config.coding.support, config.coding.blocks)


@dataclass(frozen=True)
class Run:
    """What is computed, by how many ranks."""

    config: Config
    channels: int  # d
    grid_points: int  # coordinates of a signal
    world: int  # ranks in all
    gate: GateCost = field(default_factory=GateCost)  # for a rank's signals
    in_dim: int = 2  # m
    per_signal: bool = False  # whether every signal has coordinates of its own
    buffers: int = 0  # numbers that a model holds besides its parameters and the gate's
    grid_shape: tuple[int, ...] = ()  # on which the gate sees a signal
    codebook: int = 1  # training signals

    @property
    def coordinates(self) -> int:
        """C, at which f is evaluated in a step."""
        return min(self.config.training.coordinates or self.grid_points, self.grid_points)

    @property
    def signals(self) -> int:
        """T, a rank's part of a micro-batch."""
        return rows(self.config, self.world)

    @property
    def width(self) -> int:
        """h."""
        return feature_width(self.config.dictionary, self.in_dim)

    @property
    def trunk_parameters(self) -> int:
        """Of the shared layers."""
        return parameters(trunk_layers(self.config.dictionary, self.in_dim))

    @property
    def expert_parameters(self) -> int:
        """Of one expert."""
        return parameters(expert_layers(self.config.dictionary, self.channels, self.in_dim))

    @property
    def atom_floats(self) -> int:
        """D, the floats of an atom that the solver has reduced."""
        floats, linear = self.coordinates * self.channels, self.config.dictionary.private_layers == 1
        return min(floats, self.width * self.channels if linear else self.config.dictionary.experts)

    def slots(self, expert_parallel_size: int, is_warmup: bool) -> int:
        """Coefficients of a code that reach an owner."""
        experts = self.config.dictionary.experts // expert_parallel_size
        return experts if is_warmup else min(self.config.coding.support, experts)

    def summed(self, expert_parallel_size: int, is_warmup: bool) -> int:
        """Heads that an owner adds up for a code: all that it has, where a product with a dense code is cheaper."""
        slots, experts = (
            self.slots(expert_parallel_size, is_warmup),
            self.config.dictionary.experts // expert_parallel_size,
        )
        return experts if is_warmup or product_is_cheaper(slots, experts) else slots

    def used(self, expert_parallel_size: int, is_warmup: bool) -> int:
        """Experts of a rank that some signal uses, at most."""
        slots = self.slots(expert_parallel_size, is_warmup)
        return min(self.config.dictionary.experts // expert_parallel_size, expert_parallel_size * self.signals * slots)

    def chunks(self, expert_parallel_size: int, is_warmup: bool) -> float:
        """How many times over the atoms that are used fill a chunk."""
        layers = expert_layers(self.config.dictionary, self.channels, self.in_dim)
        # Of an expert at a coordinate: every layer, before and after its activation.
        floats = self.channels if len(layers) == 1 else 2 * sum(outputs for _, outputs in layers)
        used = self.used(expert_parallel_size, is_warmup)
        return 4 * used * self.coordinates * floats / chunk_bytes(self.config.dictionary.chunk_mb)

    def merges(self, expert_parallel_size: int, is_warmup: bool) -> bool:
        """Whether heads are merged."""
        dictionary = self.config.dictionary
        if expert_parallel_size > 1 or dictionary.private_layers > 1 or dictionary.strategy != "auto":
            return merges(dictionary)
        chosen = cheaper_strategy(
            signals=self.signals,
            coordinates=self.coordinates,
            support=self.slots(1, is_warmup),
            experts=dictionary.experts,
            channels=self.channels,
            width=self.width,
            shared=True,
        )
        return chosen == "merge"
