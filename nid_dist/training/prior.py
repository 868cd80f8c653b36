"""What a training ends with: the prior on merged heads, learned from the codes of training signals."""

from collections.abc import Iterator
from functools import partial

import torch

from nid_dist.coding.prior import learn_prior
from nid_dist.coding.solvers import Solution, solve_codes, solve_codes_per_signal
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.parallel.world import World
from nid_dist.tasks.base import Task

_NUMBERS = 2**25  # of the sample
_UNSEEN = 2**40  # the first of the steps whose batches no training draws


@torch.no_grad()
def update_prior(model: Model, task: Task, world: World) -> None:
    """Learn the prior from solved codes of training signals, the same on any number of ranks.

    Args:
        model: its stored prior is changed; nothing else is.
        task: the signals.
        world: all ranks that train it, and call this together.
    """
    experts, dictionary, coding = model.dictionary.experts, model.dictionary, model.config.coding
    if model.stored_prior is None or not isinstance(experts, LinearHeads):
        return
    size = len(model.stored_prior.mean)
    sums, count = torch.zeros(size + 1, size, dtype=torch.float64, device=world.device), 0
    for solution, signals in _solved(model, task, world):
        routed = dictionary.exchange.dispatch(solution.code)()
        heads = dictionary.exchange.combine(experts.merge(routed), solution.code.signals).double()[:signals]
        heads[:, size - model.channels :] += solution.code.bias[:signals]
        sums[0] += heads.sum(0)
        sums[1:] += heads.t() @ heads
        count += signals
    count = int(world.all_reduce_sum(torch.tensor(count)))
    sums = world.all_reduce_sum(sums) / count
    model.stored_prior.set(learn_prior(sums[0], sums[1:], count, coding.prior_rank))


def _solved(model: Model, task: Task, world: World) -> Iterator[tuple[Solution, int]]:
    """Solved codes of this rank's signals, and how many of them count: all ranks make as many calls."""
    dictionary, coding = model.dictionary, model.config.coding
    options = (coding.support, coding.blocks, max(coding.ridge, 1e-9))
    # No more signals at a time than a step has: messages between ranks have room for these.
    at_once = max(1, model.config.training.batch // model.config.optimizer.accumulation // world.size)
    if task.own_coordinates:
        # Signals as a training sees them, changed ones included, at points that it has not seen.
        for step in range(max(1, coding.prior_signals // model.config.training.batch)):
            for micro in range(model.config.optimizer.accumulation):
                batch = world.raise_on_all_ranks(partial(task.batch, _UNSEEN + step, micro, world)).to(world.device)
                assert batch.coords is not None
                solution = solve_codes_per_signal(dictionary, batch.coords, batch.values, *options)
                yield solution, len(batch.values) if batch.weight else 0
        return
    count = max(2, min(coding.prior_signals, _NUMBERS // (len(model.coords) * model.channels)))
    sample = world.raise_on_all_ranks(lambda: task.sample(count))
    own = sample[world.local_slice(len(sample))].to(world.device)
    for first in range(0, -(-len(sample) // world.size), at_once):
        values = own[first : first + at_once]
        yield solve_codes(dictionary, Sampling(model.coords), values, *options), len(values)
