"""Which comparison a configuration asks for: its key `task`."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from nid_dist.config.loading import load_as
from nid_dist.errors import UserError
from nid_dist.tasks.comparison import Comparison
from nid_dist.tasks.ct.comparison import CTComparison
from nid_dist.tasks.images.comparison import ImageComparison
from nid_dist.tasks.images.inpainting_comparison import InpaintingComparison
from nid_dist.tasks.images.resolution_comparison import ResolutionComparison
from nid_dist.tasks.images.whole_comparison import WholeComparison
from nid_dist.tasks.shapes.comparison import ShapeComparison
from nid_dist.tasks.video.comparison import VideoComparison

KINDS: dict[str, type[Comparison]] = {
    kind.model_fields["task"].default: kind
    for kind in (
        ImageComparison,
        InpaintingComparison,
        ResolutionComparison,
        WholeComparison,
        ShapeComparison,
        CTComparison,
        VideoComparison,
    )
}


class _Task(BaseModel):
    """The one key that says how to read the others."""

    model_config = ConfigDict(extra="allow")
    task: str | None = None


def load_comparison(path: str | Path, overrides: Sequence[str] = ()) -> Comparison:
    """Read the configuration of a comparison: `task`, and the keys of that comparison.

    Raises:
        UserError: as `load_config`; and for a task that has no comparison.
    """
    task = load_as(_Task, path, overrides).task
    if task not in KINDS:
        raise UserError(
            f"{path}: task", found=str(task), expected=f"one of {', '.join(KINDS)}", hint="see configs/compare_*.yaml"
        )
    return load_as(KINDS[task], path, overrides)
