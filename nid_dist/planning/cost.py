"""What a step sends, on paper: sizes of a model, and the bytes of every message of the exchange.

Messages have sizes that follow from the configuration, so these are the numbers that a run's counters (`Traffic`) show,
exactly; only what a solver fetches depends on the codes, and is estimated (`fetches`).
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from nid_dist.code import product_is_cheaper
from nid_dist.coding.solvers.omp import block_sizes
from nid_dist.coding.solvers.sharded import fetching_is_cheaper
from nid_dist.config.schema import Config, Encoding
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.dictionary.encodings import spline_side

NUMBER = 4
"""Bytes of a parameter, a gradient, an index on its way, and, in fp32, of everything else."""


class Message(NamedTuple):
    """One collective: what this rank sends in it, equal parts to each other rank of the group."""

    kind: str
    bytes: int


def rows(config: Config, world: int) -> int:
    """T, the signals of a rank in a micro-batch, those that only fill it up included."""
    return math.ceil(config.training.batch // config.optimizer.accumulation / world)


def encoding_width(encoding: Encoding, in_dim: int = 2) -> int:
    """Numbers that an encoding makes of a coordinate."""
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
    """h, the numbers that the trunk makes of a coordinate."""
    return dictionary.width if dictionary.shared_layers else encoding_width(dictionary.encoding, in_dim)


def expert_layers(dictionary: DictionaryConfig, channels: int, in_dim: int = 2) -> list[tuple[int, int]]:
    """Inputs and outputs of each private layer of an expert."""
    hidden = [dictionary.private_width] * (dictionary.private_layers - 1)
    return list(pairwise([feature_width(dictionary, in_dim), *hidden, channels]))


def parameters(layers: list[tuple[int, int]]) -> int:
    """Numbers of some linear layers, weights and offsets."""
    return sum((inputs + 1) * outputs for inputs, outputs in layers)


def merges(dictionary: DictionaryConfig) -> bool:
    """Whether, with several ranks, merged heads come back from the owners rather than values."""
    return dictionary.private_layers == 1 and dictionary.strategy != "combine"


def regresses(config: Config) -> bool:
    """Whether the gate learns from solved codes."""
    return config.coding.gate.kind not in ("none", "unrolled") and config.objective.distill > 0


def solves(config: Config, mode: str) -> bool:
    """Whether codes are solved in a mode."""
    return mode == "solve" or (mode == "distill" and regresses(config))


def step_messages(
    config: Config,
    channels: int,
    coordinates: int,
    world: int,
    expert_parallel_size: int,
    mode: str,
    is_warmup: bool = False,
    per_signal: bool = False,
    in_dim: int = 2,
) -> list[Message]:
    """What the exchange of one rank sends in one optimiser step, forward and backward.

    Args:
        coordinates: C, at which f is evaluated.
        world: ranks in all.
        is_warmup: whether codes are dense (mode `gate`).
        per_signal: whether every signal has its own coordinates.

    Returns:
        The messages; none where the experts are not sharded.
    """
    ranks, dictionary = expert_parallel_size, config.dictionary
    if ranks == 1:
        return []
    experts = dictionary.experts // ranks
    slots = experts if is_warmup else min(config.coding.support, experts)
    width, merged = feature_width(dictionary, in_dim), merges(dictionary)
    value, feature, number = _number_sizes(
        config, mode, is_warmup=is_warmup, per_signal=per_signal, slots=slots, experts=experts
    )
    # What autograd sends back: gradients of codes, unless they were solved; of features, where the trunk learns; of
    # sums, always, since they depend on the codes and on the experts, one of which learns.
    codes = 1 if mode == "solve" else 2
    features = 2 if mode != "distill" and dictionary.shared_layers else 1
    sizes = [("codes", NUMBER * slots)] * (not is_warmup) + [("codes", value * slots)] * codes
    if per_signal and not merged:
        sizes += [("coordinates", feature * coordinates * width)] * features
    sizes += [("sums", number * channels * (width + 1 if merged else coordinates))] * 2
    messages = [Message(kind, size * rows(config, world) * (ranks - 1)) for kind, size in sizes]
    if solves(config, mode):
        messages += solver_messages(config, channels, coordinates, world, ranks, in_dim)
    messages *= config.optimizer.accumulation
    if mode == "gate" and config.coding.gate.kind == "unrolled":
        messages += _gathered(config, channels, ranks, in_dim)  # once a step the gate takes the experts as they are
    return messages


def bytes_by_kind(messages: Iterable[Message]) -> dict[str, int]:
    """What messages add up to, as `Traffic.bytes` counts it: the kinds that are sent at all."""
    sent: dict[str, int] = {}
    for kind, size in messages:
        sent[kind] = sent.get(kind, 0) + size
    return sent


def _number_sizes(
    config: Config, mode: str, *, is_warmup: bool, per_signal: bool, slots: int, experts: int
) -> tuple[int, int, int]:
    """Bytes of a number of a code, of features, and of what comes back."""
    if config.training.precision == "fp32":
        return NUMBER, NUMBER, NUMBER
    # Autocast shortens the results of matrix products, and of what is made of these alone.
    value = 2 if mode != "solve" and config.coding.gate.kind in ("conv", "resnet") else NUMBER
    feature = 2 if config.dictionary.shared_layers else NUMBER
    if merges(config.dictionary):
        return value, feature, 2 if is_warmup or product_is_cheaper(slots, experts) else NUMBER
    return value, feature, max(value, feature) if per_signal else 2


def solver_messages(
    config: Config, channels: int, coordinates: int, world: int, expert_parallel_size: int, in_dim: int = 2
) -> list[Message]:
    """What finding the codes of a micro-batch sends (`solve_codes`).

    Args:
        world: ranks in all.

    Returns:
        All experts to everyone, exactly, or residuals, candidates and the rows of supports, estimated.
    """
    ranks = expert_parallel_size
    if fetches(config, channels, coordinates, world, ranks, in_dim):
        messages = _fetched(config, channels, coordinates, world, ranks, in_dim)
    else:
        messages = _gathered(config, channels, ranks, in_dim)
    return [*messages, Message("atoms", 8 * (ranks - 1))]  # whether a system was singular


def fetches(
    config: Config, channels: int, coordinates: int, world: int, expert_parallel_size: int, in_dim: int = 2
) -> bool:
    """Whether the solver leaves the experts with their owners and fetches the rows of supports (`solve_codes`)."""
    dictionary, width = config.dictionary, feature_width(config.dictionary, in_dim)
    linear = dictionary.private_layers == 1
    if expert_parallel_size == 1 or not (linear or coordinates * channels <= dictionary.experts):
        return False
    if config.signals.own_coordinates:  # each is solved on its own (`solve_codes`)
        return False
    features = linear and coordinates > width
    return fetching_is_cheaper(
        experts=dictionary.experts,
        ranks=expert_parallel_size,
        signals=rows(config, world),
        support=config.coding.support,
        blocks=len(solver_blocks(config)),
        expert_numbers=parameters(expert_layers(dictionary, channels, in_dim)),
        atom_numbers=channels * (1 + (width if features else coordinates)),
        common_numbers=2 * width * (width + 1) if features else 0,
    )


def solver_blocks(config: Config) -> list[int]:
    """How many atoms of a code the solver chooses in each round."""
    return block_sizes(config.coding.support, config.coding.blocks)


def _gathered(config: Config, channels: int, ranks: int, in_dim: int) -> list[Message]:
    experts, layers = config.dictionary.experts // ranks, expert_layers(config.dictionary, channels, in_dim)
    # Linear heads are one tensor, deep experts two per layer.
    sizes = [parameters(layers)] if len(layers) == 1 else [size for i, o in layers for size in (i * o, o)]
    return [Message("atoms", NUMBER * experts * size * (ranks - 1)) for size in sizes]


def _fetched(config: Config, channels: int, coordinates: int, world: int, ranks: int, in_dim: int) -> list[Message]:
    signals, experts, support = rows(config, world), config.dictionary.experts, config.coding.support
    width = feature_width(config.dictionary, in_dim)
    features = config.dictionary.private_layers == 1 and coordinates > width
    numbers = channels * (width if features else coordinates)
    sizes = [8 * width * (width + 1)] * features  # by the first rank, the one that sends most
    sizes += [NUMBER, NUMBER]  # the atoms' energy and their largest norm
    for size in solver_blocks(config):
        # A residual to every owner, scores and places of its candidates back, and what was chosen of them.
        sizes += [NUMBER * signals * each for each in (numbers, 2 * min(size, experts // ranks), size)]
        # All signals choose different atoms, as far as there are any.
        sizes.append(NUMBER * (numbers + channels) * min(signals * support, experts) * size // (support * ranks))
    return [Message("atoms", size * (ranks - 1)) for size in sizes]
