"""From a configuration to a trained model and the folder of its run."""

import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from nid_dist.checkpoints.run_folder import RunFolder, create, resolve_resume, trained_with, validate_run_dir
from nid_dist.config.recording import Change, recorded, require_same_dictionary
from nid_dist.config.schema import Config
from nid_dist.device import choose_device
from nid_dist.export import describe, measured
from nid_dist.files import keep_apart, write_json
from nid_dist.memory import keep_freed_memory
from nid_dist.parallel.engines.engine import Engine
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.setup import make_engine, open_world
from nid_dist.parallel.world import World
from nid_dist.precision import shortfall
from nid_dist.progress import phase
from nid_dist.tasks.registry import fitter_of, make_task
from nid_dist.training.branching import set_aside_later
from nid_dist.training.monitor import Monitor
from nid_dist.training.trainer import Trainer


def train(config: Config, resume: str | None = None, launch: Launch | None = None) -> Trainer:
    """Train, in this process alone or together with the others of a launch.

    Args:
        resume: "auto", a checkpoint, or None for a new run.
        launch: of several processes; None: this one alone.

    Returns:
        The trainer: `trainer.figures` are the last evaluation's. One process can fit signals by `trainer.model.fit` at
        once; of several, which have a part of the experts each, load the run.

    Raises:
        UserError: when something about the configuration, the images or the run's folder is wrong; an existing run is
            not touched then.
    """
    begin, launch = time.perf_counter(), Launch() if launch is None else launch
    keep_freed_memory()
    with open_world(config, launch) as world:
        device = choose_device(config.parallel.device, launch.local_rank, launch.local_size)
        return _train(config, resume, world, make_engine(config, launch, world), str(device), begin)


def _train(config: Config, resume: str | None, world: World, engine: Engine, device: str, begin: float) -> Trainer:
    shown, config = config.logging.run_dir, recorded(config)
    run_dir = Path(config.logging.run_dir)
    source, changed = world.on_rank_zero(lambda: _source(resume, run_dir, config))
    with phase("reading the signals", shown=world.first and config.logging.progress):
        task = world.raise_on_all_ranks(lambda: make_task(config))
        model = task.model(world.exchange).to(world.device)
    model.fitter = fitter_of(config)
    if config.parallel.checkpoint_gate and model.gate is not None:
        from nid_dist.parallel.engines.fairscale_engine import checkpoint_gate

        checkpoint_gate(model.gate)
    trainer = Trainer(config, task, model, engine, RunFolder(run_dir), world, begin)
    world.formed()
    # A checkpoint that does not fit is refused here, before the run's files are touched.
    start = None if source is None else trainer.resume(Path(source))
    if start is None:
        trainer.initialise()
    with ExitStack() as opened:
        folder = partial(create, run_dir, config, resume, finished=trainer.finished)
        aside = world.on_rank_zero(lambda: _take(opened.enter_context(folder()), trainer))
        monitor = Monitor(
            trainer.folder,
            config.logging,
            config.training.steps,
            max_seconds=config.training.max_seconds,
            first_step=trainer.step,
            enabled=world.first,
        )
        opened.enter_context(closing(monitor))
        monitor.message(device)
        missing = shortfall(config.training.precision, world.device)
        if missing is not None:
            monitor.message(missing)
        if start is not None:
            monitor.message(f"resumed {start} at step {trainer.step}")
            _note(monitor, trainer, [Change(*each) for each in changed])
        if aside:
            names = ", ".join(Path(path).name for path in aside)
            monitor.message(f"later checkpoints are of another course now, moved to {Path(aside[0]).parent}: {names}")
        monitor.message(f"{world.topology.summary()}; {len(task.signals)} training signals; writing to {shown}")
        trainer.run(monitor)
        if trainer.figures:
            world.on_rank_zero(lambda: describe(trainer.model, trainer.folder))  # with what was measured
    return trainer


def _source(resume: str | None, run_dir: Path, config: Config) -> tuple[str | None, list[Change]]:
    """What the training starts from, and what of its configuration has changed since."""
    keep_apart(run_dir, [getattr(config.signals, "path", None)], f"logging.run_dir {run_dir}")
    validate_run_dir(run_dir, resume)
    source = resolve_resume(resume, run_dir)
    if source is None:
        return None, []
    before = trained_with(source)
    if before is None:
        return str(source), []
    same_run = source.resolve().is_relative_to(run_dir.resolve())
    return str(source), require_same_dictionary(before, config, str(source), same_run=same_run)


def _note(monitor: Monitor, trainer: Trainer, changed: list[Change]) -> None:
    """Say and record what the configuration has changed since the checkpoint."""
    told = ", ".join(str(change) for change in changed if change.kind != "free")
    if told and trainer.finished:
        monitor.message(f"nothing is left to be trained with what the configuration has changed: {told}")
    elif told:
        monitor.message(f"trained otherwise from step {trainer.step} on: {told}")
    if changed and not trainer.finished:
        text = {change.key: f"{change.before} -> {change.after}" for change in changed}
        monitor.scalars(trainer.step, {}, event="changed", text=text)


def _take(folder: RunFolder, trainer: Trainer) -> list[str]:
    """Write what belongs to the run as a whole; the checkpoints that are set aside."""
    aside = set_aside_later(folder, trainer.step)
    if not aside:
        trainer.model.validation = measured(folder)
    describe(trainer.model, folder)
    write_json(folder.path / "placement.json", trainer.world.topology.as_table())
    return [str(path) for path in aside]
