"""What a training begins with: initial values that need data, and the optimiser."""

import torch
from torch import Tensor

from nid_dist.config.schema import Optimizer
from nid_dist.dictionary.initialization import initialise_heads, whiten_features
from nid_dist.dictionary.principal_features import principal_features
from nid_dist.model import Model, seeded
from nid_dist.parallel.world import World
from nid_dist.precision import full_precision
from nid_dist.tasks.base import Task

_SIGNALS = 8192
_FOR_EACH = 4  # signals for each principal component: more would change no component that matters
_FLOATS = 2**25  # of the sample for initial values: 128 MiB


@full_precision()
def initialise(model: Model, task: Task, world: World) -> None:
    """Give a new model its data-dependent initial values, the same on all ranks.

    Raises:
        UserError: when a signal cannot be read.
    """
    config, dictionary = model.config.dictionary, model.dictionary
    sample = None
    if config.init != "random" and dictionary.linear:
        count = max(16, min(_SIGNALS, _FLOATS // (len(model.coords) * model.channels)))
        if config.init == "principal":
            count = min(count, _FOR_EACH * config.width)
        sample = world.raise_on_all_ranks(lambda: task.sample(count)).to(world.device)
    if config.whiten:
        wanted = sample if config.init == "principal" else None
        if wanted is None or not principal_features(dictionary, wanted.coords, wanted.values):
            whiten_features(dictionary, model.coords)
    if config.init != "random" and sample is not None:
        initialise_heads(dictionary, sample.coords, sample.values, config.init, seeded(model.config.training.seed))
    # Computed alike everywhere, but machines of several kinds round differently.
    for name, tensor in model.state_dict().items():
        world.replicate(tensor, sharded=is_sharded(name, tensor))


def is_sharded(name: str, tensor: Tensor) -> bool:
    """Whether a tensor of the model or the optimiser is one of the experts', a row each; step counts are not."""
    return "dictionary.experts." in name and tensor.dim() > 0


def make_optimizer(model: Model, config: Optimizer) -> torch.optim.Optimizer:
    """Adam or AdamW, with a group of parameters for each learning rate: it has `name`, and `sharded` for an engine.

    Fused: it takes few launches, and leaves out a step where the device says so.
    """
    parts = {"experts": model.dictionary.experts, "trunk": model.dictionary.trunk, "gate": model.gate}
    groups = [
        {"params": list(part.parameters()), "name": name, "sharded": name == "experts"}
        for name, part in parts.items()
        if part is not None and any(True for _ in part.parameters())
    ]
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, eps=1e-8, fused=True)
