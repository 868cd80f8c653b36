"""The tasks there are, one line each, and from a configuration to its own."""

from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from nid_dist.coding.fit import Fit
from nid_dist.coding.method import Method
from nid_dist.config.schema import Config
from nid_dist.errors import UserError
from nid_dist.evaluation.file_report import FileSignals
from nid_dist.model import Fitter, Model
from nid_dist.tasks.base import Task

# Imported when they are needed: a dictionary of images is used without what reads meshes.
TASKS = {
    "images": "nid_dist.tasks.images.task:ImageTask",
    "video": "nid_dist.tasks.video.task:VideoTask",
    "ct": "nid_dist.tasks.ct.task:CTTask",
    "audio": "nid_dist.tasks.audio.task:AudioTask",
    "shapes": "nid_dist.tasks.shapes.task:ShapeTask",
}


def make_task(config: Config) -> Task:
    """Make the task that a configuration asks for, its signals listed but not read.

    Raises:
        UserError: when the signals cannot be listed, or do not fit the configuration.
    """
    module, _, name = TASKS[config.task].partition(":")
    task: Task = getattr(import_module(module), name)(config)
    return task


def files_of(config: Config, where: str) -> FileSignals:
    """`FILES` of the signals' room: of files that hold them, and how they are fitted; scanned images are images.

    Raises:
        UserError: saying `where`, for a task whose signals are fitted by a way of its own.
    """
    room = f"nid_dist.tasks.{config.signals.task}.report"
    if find_spec(room) is None:
        raise UserError(
            where,
            found=f"one of {config.task} (signals.source: {config.signals.source})",
            expected="one whose signals are files, each with a code, as images are",
            hint="choose another dictionary, or fit such a signal by its own way",
        )
    files: FileSignals = import_module(room).FILES
    return files


def fitter_of(config: Config) -> Fitter:
    """The way to fit signals of a configuration's task, whose room is entered with the first of them."""
    return partial(_fit, config.task)


def _fit(
    task: str, model: Model, signals: Sequence[Any], methods: Sequence[str | Method] | None, **options: Any
) -> Iterator[dict[str, Fit]]:
    yield from import_module(f"nid_dist.tasks.{task}.fitting").fit(model, signals, methods, **options)
