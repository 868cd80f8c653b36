"""The tasks there are, one line each, and from a configuration to its own."""

from importlib import import_module

from nid_dist.config.schema import Config
from nid_dist.tasks.base import Task

# Imported when they are needed: a dictionary of images is used without what reads meshes.
TASKS = {
    "images": "nid_dist.tasks.images.task:ImageTask",
    "video": "nid_dist.tasks.video.task:VideoTask",
    "ct": "nid_dist.tasks.ct.task:CTTask",
    "shapes": "nid_dist.tasks.shapes.task:ShapeTask",
}


def make_task(config: Config) -> Task:
    """Make the task that a configuration asks for.

    Args:
        config: the whole configuration.

    Returns:
        The task, its signals listed but not read.

    Raises:
        UserError: when the signals cannot be listed, or do not fit the configuration.
    """
    module, _, name = TASKS[config.task].partition(":")
    task: Task = getattr(import_module(module), name)(config)
    return task
