"""One task for each kind of signals, all of one protocol."""

from pathlib import Path

from nid_dist.tasks.base import Task
from nid_dist.tasks.images.task import ImageTask
from nid_dist.tasks.registry import make_task
from nid_dist.tasks.shapes.task import ShapeTask
from tests.tasks.shapes import test_task as test_shapes
from tests.tiny import tiny


def test_the_source_decides(images: Path, tmp_path: Path) -> None:
    pictures, shapes = make_task(tiny(images, tmp_path / "run")), make_task(test_shapes.tiny(tmp_path))
    assert isinstance(pictures, ImageTask) and isinstance(shapes, ShapeTask)
    assert isinstance(pictures, Task) and isinstance(shapes, Task)
    for task in (pictures, shapes):
        model = task.model()
        assert (model.grid_shape, model.channels, model.signals) == (task.grid_shape, task.channels, len(task.signals))
        assert len(task.sample(2)) == 2
