"""From a configuration to its task."""

from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from nid_dist.coding.fit import Fit
from nid_dist.coding.method import Method
from nid_dist.config.schema import Config
from nid_dist.model import Fitter, Model
from nid_dist.tasks.base import Task


def make_task(config: Config) -> Task:
    """Make the task that `signals.source` asks for.

    Args:
        config: the whole configuration.

    Returns:
        The task, its signals listed but not read.

    Raises:
        UserError: when the signals cannot be listed, or do not fit the configuration.
    """
    if config.signals.source == "shapes":
        from nid_dist.tasks.shapes.task import ShapeTask

        return ShapeTask(config)
    if config.signals.source == "video":
        from nid_dist.tasks.video.task import VideoTask

        return VideoTask(config)
    if config.tomography is not None:
        from nid_dist.tasks.ct.task import CTTask

        return CTTask(config)
    from nid_dist.tasks.images.task import ImageTask

    return ImageTask(config)


def fitter_of(config: Config) -> Fitter:
    """The way to fit signals of a configuration's task, whose room is entered with the first of them.

    Args:
        config: the whole configuration.

    Returns:
        What a model is bound to.
    """
    source = config.signals.source
    task = source if source in ("shapes", "video") else "images" if config.tomography is None else "ct"
    return partial(_fit, task)


def _fit(
    task: str, model: Model, signals: Sequence[Any], methods: Sequence[str | Method] | None, **options: Any
) -> Iterator[dict[str, Fit]]:
    yield from import_module(f"nid_dist.tasks.{task}.fitting").fit(model, signals, methods, **options)
