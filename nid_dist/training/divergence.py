"""What is said when a training diverges: where it was, what is kept, and what to turn down."""

import math
from pathlib import Path

import torch

from nid_dist.checkpoints import checkpoint
from nid_dist.coding.solvers.ridge import SingularSystem
from nid_dist.config.schema import Optimizer
from nid_dist.errors import UserError
from nid_dist.parallel.world import World
from nid_dist.training.step import Failure


def what_failed(failure: Failure, world: World) -> str:
    """What a step without a result has found, the same on all ranks.

    The norm, and so whether there was a failure and where, is the same on all of them; the rest they tell each other.

    Raises:
        SingularSystem: at the first step, where the error is the codes' own.
    """
    own = torch.tensor(-1 if failure.unsolved is None else failure.unsolved)
    signal = int(world.all_gather(own).max())
    loss = world.agree(torch.tensor(failure.loss, dtype=torch.float64)).item()
    if signal >= 0 and failure.step == 1:
        raise SingularSystem(signal)
    if signal >= 0:
        return f"that codes cannot be solved ({SingularSystem(signal)})"
    return f"loss {loss:g}" + (f" and gradient norm {failure.gradient_norm:g}" if math.isfinite(loss) else "")


def divergence(config: Optimizer, checkpoints: Path, step: int, found: str) -> UserError:
    """The error that ends a training diverged at a step (from 1), and names the newest of its checkpoints."""
    good = checkpoint.newest(checkpoints)
    kept = f"the last good checkpoint is {good}" if good else "no checkpoint was written yet"
    return UserError(
        f"training step {step}",
        found=found,
        expected="finite numbers",
        hint=f"{kept}; the likely cause is a learning rate that is too high (optimizer.lr {config.lr:g}, "
        f"trunk_lr {config.trunk_lr:g}, gate_lr {config.gate_lr:g}): lower it, raise optimizer.warmup_steps or "
        f"{'lower' if config.clip_norm else 'set'} optimizer.clip_norm",
    )
