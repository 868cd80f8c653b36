"""From a configuration to its task."""

from nid_dist.config.schema import Config
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
