"""What a step sends, on paper: the bytes of every message of the exchange.

Messages have sizes that follow from the configuration, so these are the numbers that a run's counters (`Traffic`) show,
exactly; only what a solver fetches depends on the codes, and is estimated (`fetches`).
"""

from typing import NamedTuple

from nid_dist.coding.solvers.sharded import fetching_is_cheaper
from nid_dist.merging import product_is_cheaper
from nid_dist.planning.run import Run, expert_layers, merges, parameters, solver_blocks, solves

FLOAT_BYTES = 4
"""Bytes of a parameter, a gradient, an index on its way, and, in fp32, of everything else."""


class Message(NamedTuple):
    """One collective: what this rank sends in it, equal parts to each other rank of the group."""

    kind: str
    bytes: int


def step_messages(run: Run, expert_parallel_size: int, mode: str, is_warmup: bool = False) -> list[Message]:
    """What the exchange of one rank sends in one optimiser step, forward and backward; nothing without sharded experts.

    While it warms up, codes are dense (mode `gate`).
    """
    config, ranks = run.config, expert_parallel_size
    if ranks == 1:
        return []
    merged, slots = merges(config.dictionary), run.slots(ranks, is_warmup)
    value, feature, number = _float_sizes(run, ranks, mode, is_warmup)
    # What autograd sends back: gradients of codes, unless they were solved; of features, where the trunk learns; of
    # sums, always, since they depend on the codes and on the experts, one of which learns.
    codes = 1 if mode == "solve" else 2
    features = 2 if mode != "distill" and config.dictionary.shared_layers else 1
    sizes = [("codes", FLOAT_BYTES * slots)] * (not is_warmup) + [("codes", value * slots)] * codes
    if run.per_signal and not merged:
        sizes += [("coordinates", feature * run.coordinates * run.width)] * features
    sizes += [("sums", number * run.channels * (run.width + 1 if merged else run.coordinates))] * 2
    messages = [Message(kind, size * run.signals * (ranks - 1)) for kind, size in sizes]
    if solves(config, mode):
        messages += solver_messages(run, ranks)
    messages *= config.optimizer.accumulation
    if mode == "gate" and config.coding.gate.kind == "unrolled":
        messages += _gathered(run, ranks)  # once a step the gate takes the experts as they are
    return messages


def _float_sizes(run: Run, ranks: int, mode: str, is_warmup: bool) -> tuple[int, int, int]:
    """Bytes of a float of a code, of features, and of what comes back."""
    config = run.config
    if config.training.precision != "bf16":  # tf32 rounds factors, not results
        return FLOAT_BYTES, FLOAT_BYTES, FLOAT_BYTES
    # Autocast shortens the results of matrix products, and of what is made of these alone.
    value = 2 if mode != "solve" and config.coding.gate.kind in ("conv", "resnet") else FLOAT_BYTES
    feature = 2 if config.dictionary.shared_layers else FLOAT_BYTES
    if merges(config.dictionary):
        experts = config.dictionary.experts // ranks
        multiplied = is_warmup or product_is_cheaper(run.slots(ranks, is_warmup), experts)
        return value, feature, 2 if multiplied else FLOAT_BYTES
    return value, feature, max(value, feature) if run.per_signal else 2


def solver_messages(run: Run, expert_parallel_size: int) -> list[Message]:
    """What finding the codes of a micro-batch sends (`solve_codes`).

    It is all experts to everyone, exactly, or residuals, candidates and the rows of supports, estimated.
    """
    ranks = expert_parallel_size
    return _fetched(run, ranks) if fetches(run, ranks) else _gathered(run, ranks)


def fetches(run: Run, expert_parallel_size: int) -> bool:
    """Whether the solver leaves the experts with their owners and fetches the rows of supports (`solve_codes`)."""
    config, experts = run.config, run.config.dictionary.experts
    linear, features = config.dictionary.private_layers == 1, _reduced_to_features(run)
    if expert_parallel_size == 1 or not (linear or run.coordinates * run.channels <= experts):
        return False
    if config.signals.own_coordinates:  # each is solved on its own (`solve_codes`)
        return False
    return fetching_is_cheaper(
        experts=experts,
        ranks=expert_parallel_size,
        signals=run.signals,
        support=config.coding.support,
        blocks=len(solver_blocks(config)),
        expert_floats=run.expert_parameters,
        atom_floats=run.channels * (1 + (run.width if features else run.coordinates)),
        common_floats=2 * run.width * (run.width + 1) if features else 0,
    )


def _reduced_to_features(run: Run) -> bool:
    return run.config.dictionary.private_layers == 1 and run.coordinates > run.width


def _gathered(run: Run, ranks: int) -> list[Message]:
    dictionary = run.config.dictionary
    experts, layers = dictionary.experts // ranks, expert_layers(dictionary, run.channels, run.in_dim)
    # Linear heads are one tensor, deep experts two per layer.
    sizes = [parameters(layers)] if len(layers) == 1 else [size for i, o in layers for size in (i * o, o)]
    return [Message("atoms", FLOAT_BYTES * experts * size * (ranks - 1)) for size in sizes]


def fetched_rows(run: Run, ranks: int) -> int:
    """Of one owner's experts, those whose rows a rank fetches in a round of the solver, estimated.

    All its signals choose different atoms, as far as there are any.
    """
    rounds = len(solver_blocks(run.config))
    return min(run.signals * run.config.coding.support, run.config.dictionary.experts) // (ranks * rounds)


def _fetched(run: Run, ranks: int) -> list[Message]:
    experts, features = run.config.dictionary.experts, _reduced_to_features(run)
    signals, floats = run.signals, run.channels * (run.width if features else run.coordinates)
    sizes = [8 * run.width * (run.width + 1)] * features  # by the first rank, the one that sends most
    sizes += [FLOAT_BYTES, FLOAT_BYTES]  # the atoms' energy and their largest norm
    for size in solver_blocks(run.config):
        # A residual to every owner, scores and places of its candidates back, and what was chosen of them.
        sizes += [FLOAT_BYTES * signals * each for each in (floats, 2 * min(size, experts // ranks), size)]
        sizes.append(FLOAT_BYTES * (floats + run.channels) * fetched_rows(run, ranks))
    return [Message("atoms", size * (ranks - 1)) for size in sizes]
