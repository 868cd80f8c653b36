"""What a rank holds in memory, on paper: to the byte what lasts, and an estimate of what a step needs besides."""

from dataclasses import dataclass

from nid_dist.dictionary.evaluation import chunk_bytes
from nid_dist.planning.cost import FLOAT_BYTES, fetches
from nid_dist.planning.run import Run, encoding_width, expert_layers, predicts, solves, trunk_layers
from nid_dist.planning.workload import gram_is_cheaper, trained


@dataclass(frozen=True)
class Memory:
    """Bytes of a rank."""

    parameters: int  # with buffers
    gradients: int  # of what learns, in the phase where most does
    optimizer: int  # Adam's state
    activations: int  # the largest tensors of a step that are alive together

    @property
    def total(self) -> int:
        """All together."""
        return self.parameters + self.gradients + self.optimizer + self.activations


def memory(run: Run, expert_parallel_size: int, kinds: list[tuple[str, bool]]) -> Memory:
    """What a rank holds at its fullest, besides its libraries' own buffers, in steps of a mode, codes dense or not."""
    local = run.config.dictionary.experts // expert_parallel_size * run.expert_parameters
    learning = [trained(run.config, mode) for mode, _ in kinds]
    return Memory(
        FLOAT_BYTES * (local + run.trunk_parameters + run.gate.parameters + run.gate.buffers + run.buffers),
        FLOAT_BYTES
        * max((local + run.trunk_parameters) * some + run.gate.parameters * gate for some, gate in learning),
        FLOAT_BYTES * _optimizer(run, expert_parallel_size, local),
        max(_activations(run, expert_parallel_size, mode, is_warmup) for mode, is_warmup in kinds),
    )


def _optimizer(run: Run, ranks: int, local: int) -> int:
    """Floats of Adam's two moments."""
    parallel, shared = run.config.parallel, run.trunk_parameters + run.gate.parameters
    if run.world == 1 or (parallel.engine != "fairscale" and parallel.zero_stage == 0):
        return 2 * (local + shared)
    local_part, shared_part = -(-local // (run.world // ranks)), -(-shared // run.world)
    if parallel.engine != "fairscale":
        return 3 * (local_part + shared_part)  # ZeRO-1 copies the parameters that a rank updates
    # OSS does not cut tensors.
    layers, dictionary = expert_layers(run.config.dictionary, run.channels, run.in_dim), run.config.dictionary
    largest = local if len(layers) == 1 else dictionary.experts // ranks * max(i * o for i, o in layers)
    trunk = max((i * o for i, o in trunk_layers(dictionary, run.in_dim)), default=0)
    return 2 * (max(largest, local_part) + max(trunk, run.gate.largest, shared_part))


def _activations(run: Run, ranks: int, mode: str, is_warmup: bool) -> int:
    """Bytes of the largest tensors that are alive together: the batch's, and those of one of the step's two stages."""
    config, floats = run.config, run.grid_points * run.channels
    batch = config.optimizer.accumulation * run.signals * floats
    first = 0
    if solves(config, mode):
        first = _solving(run, ranks)
    elif mode == "gate" and config.coding.gate.kind == "unrolled":
        first = config.dictionary.experts * (run.expert_parameters * (ranks > 1) + 3 * floats)
    gate = 0
    if trained(config, mode)[1] and predicts(config):
        # What it keeps, with gradients; and of logits their gradients, magnitudes, and what they are compared with.
        gate = 2 * run.gate.kept + 3 * FLOAT_BYTES * run.signals * config.dictionary.experts
    return FLOAT_BYTES * batch + max(FLOAT_BYTES * first, FLOAT_BYTES * _passing(run, ranks, is_warmup) + gate)


def _passing(run: Run, ranks: int, is_warmup: bool) -> int:
    """Floats of the dictionary's forward and backward pass."""
    dictionary, signals = run.config.dictionary, run.signals
    routed, experts = ranks * signals, dictionary.experts // ranks
    features = encoding_width(dictionary.encoding) + 2 * dictionary.shared_layers * dictionary.width
    used = run.used(ranks, is_warmup)
    if run.merges(ranks, is_warmup):
        sums, atoms = run.channels * (run.width + 1), 0
    else:
        sums = run.coordinates * run.channels
        # One chunk at a time, with its gradient, and a copy of the experts that are used where not all are.
        chunk = chunk_bytes(dictionary.chunk_mb) // FLOAT_BYTES
        atoms = int(2 * chunk * min(1.0, run.chunks(ranks, is_warmup))) + 2 * used * run.expert_parameters * (
            used < experts
        )
    codes = 4 * routed * run.summed(ranks, is_warmup)
    values = 4 * signals * run.coordinates * run.channels
    return run.coordinates * features + codes + atoms + 2 * (routed * (ranks > 1) + signals) * sums + values


def _solving(run: Run, ranks: int) -> int:
    """Floats of the solver: the experts it has here, their atoms, their products with the signals, and the systems."""
    signals, support, dim = run.signals, run.config.coding.support, run.atom_floats
    experts = run.config.dictionary.experts
    gram = gram_is_cheaper(run, ranks)
    # A system in single and double precision and its factors; the rows that it is made of, once more in doubt.
    systems = 7 * signals * support**2 + 2 * (not gram) * min(2**25, signals * support * dim)
    if fetches(run, ranks):
        local, chosen = experts // ranks, min(experts, signals * support)
        return (local + chosen) * dim + 3 * ranks * signals * local + systems
    gathered = experts * run.expert_parameters * (ranks > 1)
    return gathered + experts * dim + 5 * signals * experts + gram * experts**2 + systems
