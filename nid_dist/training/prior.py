"""What a training ends with: the prior on merged heads, learned from dense fits of training signals."""

import torch

from nid_dist.coding.mixture import learn_mixture
from nid_dist.coding.prior import learn_prior
from nid_dist.coding.solvers.dense import solve_heads
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.model import Model
from nid_dist.parallel.world import World
from nid_dist.precision import full_precision
from nid_dist.tasks.base import Task

RIDGE = 1e-6
"""Relative ridge of the fits, the least that is not rounding."""


@torch.no_grad()
@full_precision()
def update_prior(model: Model, task: Task, world: World) -> None:
    """Learn the model's prior from training signals, the same on all ranks, to be called on all."""
    experts, dictionary, coding = model.dictionary.experts, model.dictionary, model.config.coding
    if model.stored_prior is None or not isinstance(experts, LinearHeads):
        return
    size = len(model.stored_prior.mean)
    parts = [torch.zeros(0, size, dtype=torch.float64, device=world.device)]
    for samples, signals in task.prior_samples(coding.prior_signals, world):
        if signals:
            heads = solve_heads(dictionary.trunk, experts, samples.to(world.device), RIDGE)
            parts.append(heads[:signals])
    own = torch.cat(parts)
    # Ranks have different numbers of signals: each writes its own among zeros.
    counts = world.all_gather(torch.tensor(len(own))).tolist()
    every, first = own.new_zeros(sum(counts), size), sum(counts[: world.rank])
    every[first : first + len(own)] = own
    every = world.all_reduce_sum(every)
    prior = learn_prior(every, coding.prior_rank)
    model.stored_prior.set(prior)
    if model.stored_mixture is not None:
        # Every rank from the same numbers, in the same order.
        seed = model.config.training.seed
        mixture = learn_mixture(prior, every, coding.mixture, channels=model.channels, seed=seed)
        model.stored_mixture.set(mixture)
