"""Which comparison a configuration asks for: its key `task`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from nid_dist.comparison.base import Comparison, Request, Results
from nid_dist.config.loading import load_as
from nid_dist.errors import UserError
from nid_dist.tasks.ct.comparison import CTComparison, compare_ct
from nid_dist.tasks.images.comparison import ImageComparison, compare_images
from nid_dist.tasks.images.inpainting_comparison import InpaintingComparison, compare_inpainting
from nid_dist.tasks.shapes.comparison import ShapeComparison, compare_shapes
from nid_dist.tasks.video.comparison import VideoComparison, compare_videos


@dataclass(frozen=True)
class Kind:
    """A comparison.

    Args:
        config: its configuration, of the whole file.
        run: makes it.
    """

    config: type[Comparison]
    run: Callable[[Any, Request], Results]


KINDS = {
    "images": Kind(ImageComparison, compare_images),
    "inpainting": Kind(InpaintingComparison, compare_inpainting),
    "shapes": Kind(ShapeComparison, compare_shapes),
    "ct": Kind(CTComparison, compare_ct),
    "video": Kind(VideoComparison, compare_videos),
}


class _Task(BaseModel):
    """The one key that says how to read the others."""

    model_config = ConfigDict(extra="allow")
    task: str | None = None


def load_comparison(path: Path, overrides: Sequence[str] = ()) -> tuple[Kind, Comparison]:
    """Read the configuration of a comparison.

    Args:
        path: a YAML file with `task` and the keys of that comparison.
        overrides: `section.key=value`, as for a training.

    Returns:
        Which comparison, and its configuration.

    Raises:
        UserError: as `load_config`; and for a task that has no comparison.
    """
    task = load_as(_Task, path, overrides).task
    if task not in KINDS:
        raise UserError(
            f"{path}: task", found=str(task), expected=f"one of {', '.join(KINDS)}", hint="see configs/compare_*.yaml"
        )
    kind = KINDS[task]
    return kind, load_as(kind.config, path, overrides)
