"""`nid-train`: train a dictionary from a configuration."""

import argparse
import shlex
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from nid_dist.cli.entry import guarded
from nid_dist.config import Config, load_config
from nid_dist.errors import UserError
from nid_dist.export import describe
from nid_dist.parallel.engine import LocalEngine
from nid_dist.parallel.memory import keep_freed_memory
from nid_dist.parallel.topology import Topology
from nid_dist.tasks.images import ImageTask
from nid_dist.training.branching import set_aside_later
from nid_dist.training.monitor import Monitor
from nid_dist.training.run_folder import RunFolder, create, refuse_unfit, resolve_resume
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
        The trainer and the last evaluation's figures; no figures for a run that was stopped, or had finished before.

    Raises:
        UserError: when something about the configuration, the images or the run's folder is wrong; an existing run is
            not touched then.
    """
    run_dir = Path(config.logging.run_dir)
    refuse_unfit(run_dir, resume)
    source = resolve_resume(resume, run_dir)
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    keep_freed_memory()
    topology = Topology(config.dictionary.experts, expert_parallel_size=config.parallel.expert_parallel_size)
    if topology.expert_parallel_size > topology.world_size:
        raise UserError(
            "parallel.expert_parallel_size",
            found=f"{topology.expert_parallel_size} in a single process",
            expected="1",
            mend="set it to 1, or start as many processes with a launcher",
        )
    task = ImageTask(config)
    trainer = Trainer(config, task, task.model(), LocalEngine(), RunFolder(run_dir))
    # A checkpoint that does not fit is refused here, before the run's files are touched.
    start = None if source is None else trainer.resume(source)
    if start is None:
        trainer.initialise()
    with create(run_dir, config, resume) as folder:
        describe(trainer.model, folder)
        aside = set_aside_later(folder, trainer.step)
        with closing(Monitor(folder, config.logging, config.training.steps, first_step=trainer.step)) as monitor:
            if start is not None:
                monitor.message(f"resumed {start} at step {trainer.step}")
            if aside:
                names = ", ".join(path.name for path in aside)
                monitor.message(f"later checkpoints are of another course now, moved to {aside[0].parent}: {names}")
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
        print(f"stopped by {trainer.stopped_by} at step {trainer.step}, checkpoint written to {run_dir}/checkpoints")
        print(f"next: {again(options, '--resume', 'auto')}")
        return 0
    if not figures:
        print(f"nothing left to do: {run_dir} has finished at step {trainer.step}")
        print(f"next: nid-fit --dictionary {run_dir} --input YOUR_IMAGES --out {run_dir}/fit")
        print(f"      to train on: {again(options, '--resume', 'auto', '--set', f'training.steps={2 * trainer.step}')}")
        return 0
    shown = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
    print(f"trained {trainer.step} steps: {shown}")
    print(f"wrote {run_dir}: checkpoints/, events/ (TensorBoard), log.jsonl, config.yaml")
    print(f"next: nid-fit --dictionary {run_dir} --input YOUR_IMAGES --out {run_dir}/fit")
    return 0


def again(options: argparse.Namespace, *more: str) -> str:
    """The command that continues the run: the same configuration, overridden as before."""
    words = ["nid-train", "--config", str(options.config), *(["--single-process"] if options.single_process else [])]
    given = ["--set", *options.overrides] if options.overrides else []
    return shlex.join([*words, *given, *more])


main = guarded("nid-train", command)
