"""`nid-train`: train a dictionary from a configuration."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from nid_dist.cli.entry import guarded
from nid_dist.config import Config, load_config
from nid_dist.errors import UserError
from nid_dist.export import describe
from nid_dist.parallel.engine import LocalEngine
from nid_dist.parallel.topology import Topology
from nid_dist.tasks.images import ImageTask
from nid_dist.training.monitor import Monitor
from nid_dist.training.run_folder import create, resolve_resume
from nid_dist.training.trainer import Trainer


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="nid-train", description="Train a neural implicit dictionary.")
    parser.add_argument("--config", type=Path, required=True, help="YAML configuration")
    parser.add_argument("--single-process", action="store_true", help="one process, no launcher (debugging, tests)")
    parser.add_argument("--resume", metavar="auto|PATH", help="continue the run (auto), or from one checkpoint")
    parser.add_argument(
        "--set", dest="overrides", action="extend", nargs="+", default=[], metavar="section.key=value", help="override"
    )
    return parser


def train(config: Config, resume: str | None = None) -> tuple[Trainer, dict[str, float]]:
    """Train in one process.

    Args:
        config: the configuration.
        resume: "auto", a checkpoint, or None for a new run.

    Returns:
        The trainer and the last evaluation's figures.
    """
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    topology = Topology(config.dictionary.experts, expert_parallel_size=config.parallel.expert_parallel_size)
    if topology.expert_parallel_size > topology.world_size:
        raise UserError(
            "parallel.expert_parallel_size",
            found=f"{topology.expert_parallel_size} in a single process",
            expected="1",
            mend="set it to 1, or start as many processes with a launcher",
        )
    task = ImageTask(config)
    run_dir = Path(config.logging.run_dir)
    with create(run_dir, config, resume) as folder:
        model = task.model()
        describe(model, folder)
        trainer = Trainer(config, task, model, LocalEngine(), folder)
        source = resolve_resume(resume, run_dir)
        if source is None:
            trainer.initialise()
        else:
            trainer.resume(source)
        with closing(Monitor(folder, config.logging, config.training.steps, first_step=trainer.step)) as monitor:
            if source is not None:
                monitor.message(f"resumed at step {trainer.step}")
            monitor.message(f"{topology.in_words()}; {len(task.signals)} training signals; writing to {run_dir}")
            figures = trainer.run(monitor)
    return trainer, figures


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    config = load_config(options.config, options.overrides)
    trainer, figures = train(config, options.resume)
    run_dir = config.logging.run_dir
    if trainer.stopped_by is not None:
        print(f"stopped by {trainer.stopped_by} at step {trainer.step}, checkpoint written")
        print(f"next: nid-train --config {options.config} --resume auto   (with the same --set)")
        return 0
    shown = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
    print(f"trained {trainer.step} steps: {shown}")
    print(f"wrote {run_dir}: checkpoints/, events/ (TensorBoard), log.jsonl, config.yaml")
    print(f"next: nid-fit --dictionary {run_dir} --input YOUR_IMAGES --out {run_dir}/fit")
    return 0


main = guarded("nid-train", command)
