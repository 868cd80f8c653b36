"""What a rank computes in a step, on paper: operations of products, gathers and their gradients.

One multiplication with one addition is two operations. What only fills messages up is counted, since it is computed.
"""

import itertools

from nid_dist.config.schema import Config
from nid_dist.merging import product_is_cheaper
from nid_dist.planning.cost import fetches
from nid_dist.planning.run import Run, expert_layers, predicts, regresses, solver_blocks, solves, trunk_layers


def trained(config: Config, mode: str) -> tuple[bool, bool]:
    """Whether experts and trunk learn in a mode, and whether the gate does."""
    return mode != "distill", config.coding.gate.kind != "none" and (mode != "solve" or regresses(config))


def step_flops(run: Run, expert_parallel_size: int, mode: str, is_warmup: bool = False) -> int:
    """Operations of a rank in a step: gate, solver, trunk, experts; both passes. Codes are dense in a warm-up."""
    config, gate, count = run.config, run.gate, run.config.optimizer.accumulation
    work = 2 * _dictionary(run, expert_parallel_size, mode, is_warmup)
    if solves(config, mode):
        work += 2 * _solver(run, expert_parallel_size)
    if trained(config, mode)[1] and predicts(config):
        # With several micro-batches, statistics of the whole batch take a forward pass of their own.
        work += gate.forward * (1 + (mode == "gate" and count > 1)) + gate.backward
    unrolled = mode == "gate" and config.coding.gate.kind == "unrolled"
    return count * work + 2 * unrolled * _evaluated(run, run.grid_points, config.dictionary.experts)


def _dictionary(run: Run, ranks: int, mode: str, is_warmup: bool) -> int:
    """Multiplications of f; a product has a gradient for each factor that learns or depends on what does."""
    dictionary, signals, points, channels = run.config.dictionary, run.signals, run.coordinates, run.channels
    experts, codes = int(mode != "distill"), int(mode != "solve")
    shared = [inputs * outputs for inputs, outputs in trunk_layers(dictionary, run.in_dim)]
    trunk = points * (sum(shared) + experts * (2 * sum(shared) - sum(shared[:1])))
    if run.merges(ranks, is_warmup):
        merge = ranks * signals * run.summed(ranks, is_warmup) * run.expert_parameters * (1 + experts + codes)
        return trunk + merge + signals * points * channels * run.width * (2 + (experts and bool(shared)))
    used, again = run.used(ranks, is_warmup), int(run.chunks(ranks, is_warmup) > 1)
    layers = sum(inputs * outputs for inputs, outputs in expert_layers(dictionary, channels, run.in_dim))
    combine = ranks * signals * used * points * channels * (1 + experts + codes + again)
    return trunk + combine + points * used * layers * (1 + 2 * experts + again)


def _evaluated(run: Run, coordinates: int, experts: int) -> int:
    """Multiplications of evaluating some experts."""
    trunk = sum(inputs * outputs for inputs, outputs in trunk_layers(run.config.dictionary, run.in_dim))
    layers = sum(inputs * outputs for inputs, outputs in expert_layers(run.config.dictionary, run.channels, run.in_dim))
    return coordinates * (trunk + experts * layers)


def gram_is_cheaper(run: Run, expert_parallel_size: int) -> bool:
    """Whether the solver multiplies all atoms with each other once (as `solve_omp` decides)."""
    experts, supports = run.config.dictionary.experts, itertools.accumulate(solver_blocks(run.config))
    few = experts <= 16384 and experts**2 <= run.signals * sum(size**2 for size in supports)
    return few and not fetches(run, expert_parallel_size)


def _solver(run: Run, ranks: int) -> int:
    """Multiplications of the reduction to inner products and of the matching pursuit, for a rank's signals."""
    dictionary, signals, points, dim = run.config.dictionary, run.signals, run.coordinates, run.atom_floats
    experts, width, floats = dictionary.experts, run.width, run.coordinates * run.channels
    # Where rows are fetched, an owner reduces its own atoms only, and scores them for the signals of all.
    apart = fetches(run, ranks)
    reduced = experts // ranks if apart else experts
    if dictionary.private_layers == 1 and points > width:
        trunk = sum(inputs * outputs for inputs, outputs in trunk_layers(dictionary, run.in_dim))
        work = points * (trunk + width**2) + signals * floats * width + reduced * run.channels * width**2
    else:
        work = _evaluated(run, points, reduced) + (dim < floats) * (experts + signals) * experts * floats
    supports = list(itertools.accumulate(solver_blocks(run.config)))
    gram = gram_is_cheaper(run, ranks)
    work += (gram * experts + signals) * experts * dim
    for size in supports:
        # The system of a support and its factorisation; then, but for the last, what the code leaves over.
        work += signals * (size**2 * dim * (not gram) + size**3 // 6)
        if size < supports[-1]:
            summed = experts if product_is_cheaper(size, experts) else size
            work += signals * (summed * experts if gram else (summed + experts) * dim)
    return work
