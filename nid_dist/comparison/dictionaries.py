"""The dictionaries of a comparison: trained once, then found again."""

import re
import sys
from pathlib import Path

from nid_dist.checkpoints.run_folder import RunFolder
from nid_dist.config import Config, find_config, load_config
from nid_dist.config.recording import recorded
from nid_dist.errors import UserError
from nid_dist.export import load
from nid_dist.model import Model
from nid_dist.tasks.comparison import Trained
from nid_dist.training.run import train

_NO_MATTER = {"logging", "parallel"}  # the sections that do not change what a training finds


def trained(dictionary: Trained, path: Path, run_dir: str) -> tuple[Model, Config]:
    """A dictionary of the comparison at `path`, frozen, and its configuration.

    It is trained where it has not been, or not to the end; its run is kept in `run_dir`, in a folder of its name.

    Raises:
        UserError: when it cannot be trained, its training was stopped, or the folder holds another one.
    """
    folder = folder_of(dictionary, run_dir)
    overrides = [*dictionary.set, f"logging.run_dir={folder}"]
    config = load_config(find_config(dictionary.config, path.parent), overrides)
    run = RunFolder(folder)
    if run.config.is_file():
        _refuse_another(run, config)
    if not run.finished(config.training):
        print(f"training {dictionary.name} (kept in {folder})", file=sys.stderr)
        trainer = train(config, resume="auto")
        if trainer.stopped_by is not None:
            raise UserError(
                f"the training of {dictionary.name}",
                found=f"that it was stopped by {trainer.stopped_by} at step {trainer.step}, checkpoint written",
                expected="all of its steps",
                hint="the same command goes on from there",
            )
    return load(folder), config


def folder_of(dictionary: Trained, run_dir: str) -> Path:
    """Where the run of a dictionary is kept."""
    return Path(run_dir) / (re.sub(r"[^\w.=-]+", "-", dictionary.name).lstrip(".") or "-")


def _refuse_another(run: RunFolder, config: Config) -> None:
    wanted, found = (recorded(each).model_dump(exclude=_NO_MATTER) for each in (config, run.read_config()))
    different = [
        f"{section}.{key}"
        for section in wanted
        # A section may be missing as a whole.
        for one, other in [(wanted[section] or {}, found[section] or {})]
        for key in dict.fromkeys([*one, *other])
        if one.get(key) != other.get(key)
    ]
    if different:
        raise UserError(
            str(run.path),
            found=f"a dictionary trained with another {', '.join(different)}",
            expected="one of this comparison's configuration",
            hint="choose another run_dir, or move that run away",
        )
