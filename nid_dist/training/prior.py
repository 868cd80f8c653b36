"""What a training ends with: the prior on merged heads, learned from the codes of training signals."""

import torch

from nid_dist.coding.prior import learn_prior
from nid_dist.coding.solvers import solve_codes
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.parallel.world import World
from nid_dist.tasks.base import Task

_NUMBERS = 2**25  # of the sample


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
    count = max(2, min(coding.prior_signals, _NUMBERS // (len(model.coords) * model.channels)))
    sample = world.together(lambda: task.sample(count))
    count, size = len(sample), len(model.stored_prior.mean)
    own = sample[world.share(count)].to(world.device)
    sums = torch.zeros(size + 1, size, dtype=torch.float64, device=world.device)
    # Ranks that share the experts take part in each other's solving: all make as many calls.
    # No more signals at a time than a step has: messages between ranks have room for these.
    at_once = max(1, model.config.training.batch // model.config.optimizer.accumulation // world.size)
    for first in range(0, -(-count // world.size), at_once):
        values = own[first : first + at_once]
        solution = solve_codes(
            dictionary, Sampling(model.coords), values, coding.support, coding.blocks, max(coding.ridge, 1e-9)
        )
        routed = dictionary.exchange.dispatch(solution.code)()
        heads = dictionary.exchange.combine(experts.merge(routed), len(values)).double()
        heads[:, size - model.channels :] += solution.code.bias
        sums[0] += heads.sum(0)
        sums[1:] += heads.t() @ heads
    sums = world.total(sums) / count
    model.stored_prior.set(learn_prior(sums[0], sums[1:], count, coding.prior_rank))
