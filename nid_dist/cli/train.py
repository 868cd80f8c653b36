"""`nid-train`: train a dictionary from a configuration."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from nid_dist.checkpoints.run_folder import RunFolder, create, resolve_resume, validate_run_dir
from nid_dist.cli.entry import RankZeroArgumentParser, add_device_option, guarded
from nid_dist.config import Config, load_config
from nid_dist.device import choose_device
from nid_dist.evaluation.report import write_json
from nid_dist.export import describe
from nid_dist.memory import keep_freed_memory
from nid_dist.parallel.engines.engine import Engine
from nid_dist.parallel.launch.launching import Launch, detect_launch
from nid_dist.parallel.setup import make_engine, open_world
from nid_dist.parallel.world import World
from nid_dist.tasks.registry import make_task
from nid_dist.training.branching import set_aside_later
from nid_dist.training.monitor import Monitor
from nid_dist.training.trainer import Trainer

# What a person does with a trained run, by its task.
_NEXT = {
    "images": "nid-fit --dictionary {run} --input YOUR_IMAGES --out {run}/fit",
    "video": "nid-decompose --run {run} --out {run}/decomposition",
    "ct": "nid-reconstruct-ct --dictionary {run} --sinogram S.npy --geometry S.yaml --out {run}/slice",
    "shapes": "nid-reconstruct --dictionary {run} --points CLOUD.ply --out SURFACE",
}


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = RankZeroArgumentParser(prog="nid-train", description="Train a neural implicit dictionary.")
    parser.add_argument("--config", required=True, metavar="NAME|FILE", help="quickstart, images, ...; or a YAML file")
    parser.add_argument("--single-process", action="store_true", help="one process, no launcher (debugging, tests)")
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS
    )  # DeepSpeed's launcher adds it
    parser.add_argument("--resume", metavar="auto|PATH", help="continue the run (auto), or from one checkpoint")
    parser.add_argument(
        "--set", dest="overrides", action="extend", nargs="+", default=[], metavar="section.key=value", help="override"
    )
    add_device_option(parser, default=None)
    return parser


def train(config: Config, resume: str | None = None, launch: Launch | None = None) -> tuple[Trainer, dict[str, float]]:
    """Train, in this process alone or together with the others of a launch.

    Args:
        config: the configuration.
        resume: "auto", a checkpoint, or None for a new run.
        launch: of several processes; None: this one alone.

    Returns:
        The trainer and the last evaluation's figures; no figures for a run that was stopped, or had finished before.

    Raises:
        UserError: when something about the configuration, the images or the run's folder is wrong; an existing run is
            not touched then.
    """
    launch = Launch() if launch is None else launch
    keep_freed_memory()
    with open_world(config, launch) as world:
        device = choose_device(config.parallel.device, launch.local_rank, launch.local_size)
        return _train(config, resume, world, make_engine(config, launch, world), str(device))


def _train(
    config: Config, resume: str | None, world: World, engine: Engine, device: str
) -> tuple[Trainer, dict[str, float]]:
    run_dir = Path(config.logging.run_dir)
    source = world.on_rank_zero(lambda: _source(resume, run_dir))
    task = world.raise_on_all_ranks(lambda: make_task(config))
    model = task.model(world.exchange).to(world.device)
    if config.parallel.checkpoint_gate and model.gate is not None:
        from nid_dist.parallel.engines.fairscale_engine import checkpoint_gate

        checkpoint_gate(model.gate)
    trainer = Trainer(config, task, model, engine, RunFolder(run_dir), world)
    # A checkpoint that does not fit is refused here, before the run's files are touched.
    start = None if source is None else trainer.resume(Path(source))
    if start is None:
        trainer.initialise()
    with ExitStack() as opened:
        aside = world.on_rank_zero(lambda: _take(opened.enter_context(create(run_dir, config, resume)), trainer))
        monitor = Monitor(
            trainer.folder, config.logging, config.training.steps, first_step=trainer.step, enabled=world.first
        )
        opened.enter_context(closing(monitor))
        monitor.message(device)
        if start is not None:
            monitor.message(f"resumed {start} at step {trainer.step}")
        if aside:
            folder = Path(aside[0]).parent
            names = ", ".join(Path(path).name for path in aside)
            monitor.message(f"later checkpoints are of another course now, moved to {folder}: {names}")
        monitor.message(f"{world.topology.summary()}; {len(task.signals)} training signals; writing to {run_dir}")
        return trainer, trainer.run(monitor)


def _source(resume: str | None, run_dir: Path) -> str | None:
    validate_run_dir(run_dir, resume)
    source = resolve_resume(resume, run_dir)
    return None if source is None else str(source)


def _take(folder: RunFolder, trainer: Trainer) -> list[str]:
    """Write what belongs to the run as a whole; the checkpoints that are set aside."""
    describe(trainer.model, folder)
    write_json(folder.path / "placement.json", trainer.world.topology.as_table())
    return [str(path) for path in set_aside_later(folder, trainer.step)]


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    if options.device is not None:
        options.overrides.append(f"parallel.device={options.device}")
    launch = detect_launch(single_process=options.single_process)
    config = load_config(options.config, options.overrides)
    trainer, figures = train(config, options.resume, launch)
    if not trainer.world.first:
        return 0
    run_dir = config.logging.run_dir
    if trainer.stopped_by is not None:
        print(f"stopped by {trainer.stopped_by} at step {trainer.step}, checkpoint written to {run_dir}/checkpoints")
        print(f"next: {again(options, launch, '--resume', 'auto')}")
        return 0
    follows = _NEXT[config.task].format(run=run_dir)
    if not figures:
        longer = again(options, launch, "--resume", "auto", "--set", f"training.steps={2 * trainer.step}")
        print(f"nothing left to do: {run_dir} has finished at step {trainer.step}")
        print(f"next: {follows}")
        print(f"      to train on: {longer}")
        return 0
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if not name.startswith("tokens"))
    print(f"trained {trainer.step} steps: {shown}")
    print(f"wrote {run_dir}: checkpoints/, events/ (TensorBoard), log.jsonl, config.yaml")
    print(f"next: {follows}")
    return 0


def again(options: argparse.Namespace, launch: Launch, *more: str) -> str:
    """The command that continues the run: the same configuration, overridden as before."""
    if launch.size > 1:
        return f"the same launch, or one of another size, with {shlex.join(more)}"
    words = ["nid-train", "--config", str(options.config), *(["--single-process"] if options.single_process else [])]
    given = ["--set", *options.overrides] if options.overrides else []
    return shlex.join([*words, *given, *more])


main = guarded("nid-train", command, together=True)

if __name__ == "__main__":  # `deepspeed --module nid_dist.cli.train`
    sys.exit(main())
