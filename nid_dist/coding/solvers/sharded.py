"""Codes over experts that are sharded over ranks: the answer of one process, by the way that sends sooner.

Few experts are gathered, and every rank solves for its own signals. Of many, those that correlate best with a residual
are found where they are: each owner scores its own atoms for the signals of all ranks, and a signal's home fetches the
rows it chooses, each of them once, and refits.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.omp import block_sizes, inverse_norms
from nid_dist.coding.solvers.problem import Problem, reduce_owned
from nid_dist.coding.solvers.ridge import SingularSystem, first_singular, ridge_values
from nid_dist.coding.solvers.solution import Log, Solution, best_bias, residual
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Measurement
from nid_dist.parallel.exchange.exchange import Exchange
from nid_dist.parallel.exchange.fetching import FetchedRows, back_home, padded_signals, to_all
from nid_dist.precision import full_precision

LATENCY = 2**17
"""Numbers that could be sent in the time that a message takes besides: 0.5 ms at 1 GB/s, or 20 us at 25 GB/s."""


@torch.no_grad()
@full_precision()
def solve_omp_sharded(
    dictionary: Dictionary,
    measurement: Measurement,
    measured: Float[Tensor, "T M d"],
    k: int,
    blocks: int | None = None,
    ridge: float = 1e-5,
    *,
    check: bool = True,
) -> Solution:
    """`solve_omp` with every owner scoring its own atoms; deep experts need M * d numbers of memory per atom.

    To be called on all ranks that share the experts, with the same measurement. What is sent: a residual per block and
    signal to every owner, the best candidates back, and the rows of the atoms chosen, once to each rank that did.

    Returns:
        The solution for this rank's signals, of which there may be none.

    Raises:
        SingularSystem: on all ranks, when a signal's system is.
    """
    exchange = dictionary.exchange
    padded = padded_signals(exchange, len(measured), measured.device)
    owned = reduce_owned(dictionary, measurement, measured)
    table = _table(exchange, owned, padded)
    norms = owned.atoms.norm(dim=1)
    inverse = inverse_norms(norms, exchange.gather(norms.max()[None]).max())
    taken = torch.zeros(exchange.ranks * padded, len(norms), dtype=torch.bool, device=norms.device)
    indices = torch.zeros(len(measured), 0, dtype=torch.long, device=norms.device)
    rest = owned.targets
    for size in block_sizes(min(k, dictionary.num_experts), blocks):
        correlation = to_all(exchange, rest, padded) @ owned.atoms.t()
        scores = (correlation.abs() * inverse).masked_fill_(taken, -1.0)
        chosen = _best(exchange, scores, size)[: len(measured)]
        taken |= table.fetch(chosen)
        indices = torch.cat([indices, chosen], 1)
        problem, places = _fetched(owned, table), table.places(indices)
        # The others wait for this rank's messages: where a system is singular it goes on, and all raise in the end.
        values = ridge_values(problem, places, ridge, wait=check)
        code = Code(values, best_bias(problem, places, values), places)
        rest = owned.targets - code.weighted_sum(problem.atoms)
    if check:
        refuse_together(exchange, code.values, owned.targets)
    errors = residual(problem, code)
    log = Log([{"support": float(indices.shape[1]), "residual": errors.mean()}])
    return Solution(replace(code, indices=indices), errors, log)


def fetching_is_cheaper(
    *,
    experts: int,
    ranks: int,
    signals: int,
    support: int,
    blocks: int,
    expert_floats: int,
    atom_floats: int,
    common_floats: int = 0,
) -> bool:
    """Whether `solve_omp_sharded` sends in less time than it takes to gather all experts on every rank.

    Each rank sends to each of the R - 1 others: when gathering, its n / R experts; else, in four messages per block,
    for each signal, a residual per block, the score and index of k candidates and the index of k choices, and its share
    of the rows chosen. A message counts as `LATENCY` numbers more. `signals` is the largest batch of a rank,
    `expert_floats` are the parameters of an expert, `atom_floats` D + d of a reduced atom and its means, and
    `common_floats` are sent besides, once.
    """
    rows = min(signals * support, experts) * atom_floats / ranks
    messages = signals * (blocks * atom_floats + 3 * support) + 4 * blocks * LATENCY
    return common_floats + messages + rows < experts // ranks * expert_floats


def owners_should_score(
    dictionary: Dictionary, measurement: Measurement, measured: Float[Tensor, "T M d"], k: int, blocks: int | None
) -> bool:
    """Whether `solve_omp_sharded` is the way; to be called, and answered alike, on all ranks that share the experts."""
    exchange, width = dictionary.exchange, dictionary.trunk.out_dim
    # An atom of a deep expert is as long as the measurement unless it is reduced by the inner products of all atoms
    # (`reduce_problem`), and these need all in one place.
    short = dictionary.linear or measurement.size * dictionary.channels <= dictionary.num_experts
    if exchange.ranks == 1 or not short:
        return False
    features = dictionary.linear and measurement.size > width
    support = min(k, dictionary.num_experts)
    return fetching_is_cheaper(
        experts=dictionary.num_experts,
        ranks=exchange.ranks,
        signals=padded_signals(exchange, len(measured), measured.device),
        support=support,
        blocks=len(block_sizes(support, blocks)),
        expert_floats=sum(tensor[0].numel() for tensor in dictionary.experts.tensors),
        atom_floats=dictionary.channels * (1 + (width if features else measurement.size)),
        # The spectrum that all ranks use, in float64: two numbers each.
        common_floats=2 * width * (width + 1) if features else 0,
    )


def _best(exchange: Exchange, scores: Float[Tensor, "S E"], size: int) -> Int[Tensor, "rows size"]:
    """For this rank's signals, and what pads them, the experts of all ranks with the highest scores."""
    experts = scores.shape[1]
    best = scores.topk(min(size, experts), dim=1)
    # One message for both: indices below 2^24 are exact as float32.
    answers = back_home(exchange, torch.stack([best.values, best.indices.to(scores.dtype)], 1))
    candidates, local = answers.transpose(0, 1).unbind(2)
    first = experts * torch.arange(exchange.ranks, device=scores.device)
    indices = local.long() + first[:, None]
    return indices.flatten(1).gather(1, candidates.flatten(1).topk(size, dim=1).indices)


def _table(exchange: Exchange, owned: Problem, padded: int) -> FetchedRows:
    return FetchedRows(exchange, torch.cat([owned.atoms, owned.atom_means], 1), padded)


def _fetched(owned: Problem, table: FetchedRows) -> Problem:
    """This rank's signals with the atoms that it has fetched."""
    dim = owned.atoms.shape[1]
    return replace(owned, atoms=table.rows[:, :dim].contiguous(), atom_means=table.rows[:, dim:].contiguous())


def refuse_together(exchange: Exchange, values: Float[Tensor, "T k"], targets: Float[Tensor, "T *rest"]) -> None:
    """`refuse_singular` on all ranks of what failed on one: a rank that went on alone would wait for ever."""
    signal = first_singular(values, targets)
    if exchange.ranks > 1:
        signals = exchange.gather(torch.tensor([-1 if signal is None else signal], device=values.device))
        signal = int(signals.max()) if signal is None else signal
    if signal is not None and signal >= 0:
        raise SingularSystem(signal)
