"""What ranks agree on and average in a step, on paper: every message beside those of the exchange.

Together with the exchange's (`step_messages`) these are all messages of a step between its first and its last product,
to the byte; hosts send each other a few numbers besides.
"""

from typing import NamedTuple

from nid_dist.config.schema import Config
from nid_dist.planning.cost import FLOAT_BYTES
from nid_dist.planning.run import Run, regresses
from nid_dist.planning.workload import trained

_DOUBLE = 8
_ALIGNED = 2  # ZeRO cuts flat tensors into equal parts of so many floats, or a multiple


class Collective(NamedTuple):
    """What one rank sends in collectives of one kind."""

    kind: str  # gradients, parameters or agreements
    call: str  # all_reduce, all_gather or broadcast
    ranks: int  # of the group
    bytes: int  # the tensor's; of an all_gather what leaves the rank: its part, for each other one


def step_collectives(run: Run, expert_parallel_size: int, mode: str, is_warmup: bool = False) -> list[Collective]:
    """Of one optimiser step of a world of several ranks; nothing with one."""
    if run.world == 1:
        return []
    found = [
        Collective("agreements", "all_reduce", run.world, size)
        for size in (*_statistics(run.config, mode, is_warmup), _DOUBLE)  # the last is the gradients' norm
    ]
    found += [
        Collective("gradients", "all_reduce", ranks, FLOAT_BYTES * floats)
        for ranks, floats, learns in _parts(run, expert_parallel_size, mode)
        if learns and ranks > 1
    ]
    return found + _parameters(run, expert_parallel_size, mode)


def _parts(run: Run, ranks: int, mode: str) -> list[tuple[int, int, bool]]:
    """Experts, trunk and gate: how many ranks hold the same, how many floats, whether they learn in a mode."""
    dictionary, gate = trained(run.config, mode)
    local = run.config.dictionary.experts // ranks * run.expert_parameters
    parts = (
        (run.world // ranks, local, dictionary),
        (run.world, run.trunk_parameters, dictionary),
        (run.world, run.gate.parameters, gate),
    )
    return [part for part in parts if part[1]]


def _parameters(run: Run, ranks: int, mode: str) -> list[Collective]:
    """What comes back from those that have stepped it for others."""
    parallel, parts = run.config.parallel, _parts(run, ranks, mode)
    if parallel.engine == "fairscale":  # OSS: each trained tensor from its owner
        return [
            Collective("parameters", "broadcast", group, FLOAT_BYTES * floats)
            for group, floats, learns in parts
            if learns and group > 1
        ]
    if not parallel.zero_stage:
        return []
    shares = [(group, _ALIGNED * -(-floats // (_ALIGNED * group))) for group, floats, _ in parts]
    return [
        Collective("parameters", "all_gather", group, FLOAT_BYTES * share * (group - 1))
        for group, share in shares
        if group > 1
    ]


def _statistics(config: Config, mode: str, is_warmup: bool) -> list[int]:
    """Bytes of what is known of the whole batch before its loss is."""
    if mode == "gate":
        usages = 1 + (config.coding.gate.noisy and not is_warmup)
        return [_DOUBLE * usages * config.dictionary.experts]
    known = 2 * (mode == "distill") + 2 * regresses(config)
    return [_DOUBLE * known] if known else []
