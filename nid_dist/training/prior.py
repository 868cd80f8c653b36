"""What a training ends with: the prior on merged heads, learned from the codes of training signals."""

import torch

from nid_dist.coding.prior import learn_prior
from nid_dist.coding.solvers import solve_codes
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.model import Model
from nid_dist.parallel.world import World
from nid_dist.precision import full_precision
from nid_dist.tasks.base import Task


@torch.no_grad()
@full_precision()
def update_prior(model: Model, task: Task, world: World) -> None:
    """Learn the model's prior from solved codes of training signals, the same on all ranks, to be called on all."""
    experts, dictionary, coding = model.dictionary.experts, model.dictionary, model.config.coding
    if model.stored_prior is None or not isinstance(experts, LinearHeads):
        return
    size, options = len(model.stored_prior.mean), (coding.support, coding.blocks, max(coding.ridge, 1e-9))
    sums, count = torch.zeros(size + 1, size, dtype=torch.float64, device=world.device), 0
    for samples, signals in task.prior_samples(coding.prior_signals, world):
        code = solve_codes(dictionary, samples.to(world.device), *options).code
        heads = dictionary.exchange.combine(experts.merge(dictionary.exchange.dispatch(code)()), code.signals)
        heads = heads.double()[:signals]
        heads[:, size - model.channels :] += code.bias[:signals]
        sums[0] += heads.sum(0)
        sums[1:] += heads.t() @ heads
        count += signals
    count = int(world.all_reduce_sum(torch.tensor(count)))
    sums = world.all_reduce_sum(sums) / count
    model.stored_prior.set(learn_prior(sums[0], sums[1:], count, coding.prior_rank))
