"""What is said when a training diverges: where it was, what is kept, and what to turn down."""

from pathlib import Path

from nid_dist.checkpoints import checkpoint
from nid_dist.config.schema import Optimizer
from nid_dist.errors import UserError


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
