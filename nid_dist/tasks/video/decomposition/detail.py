"""Still detail that is finer than the trunk resolves: at some pixels the background is f plus a constant.

f is smooth, and a tripod a pixel wide is not. What f cannot say of it is left over in the same way in frame after
frame, whereas what passes by is gone. So a pixel gets a constant of its own if the median of what is left over counts
as foreground, and the constant explains clearly more frames than f alone and at least half of all. What rests for a
while is not taken in: f, which has forgotten it, explains the frames without it.
"""

import sys
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from nid_dist.model import Model
from nid_dist.tasks.video.decomposition.components import frame_chunks
from nid_dist.tasks.video.decomposition.foreground import THRESHOLD
from nid_dist.tasks.video.decomposition.refinement import Background, atoms_of
from nid_dist.tasks.video.task import VideoTask

MOST = 0.5
"""Share of a pixel's frames that its constant has to explain."""

MORE = 0.2
"""Share of a pixel's frames by which that must exceed what f explains by itself."""

_LOOKS = 48  # frames whose median is the first estimate
_BYTES = 2**28  # that these may take
_FLOATS = 2**19  # of the frames that are held at a time, several times over
_PART = 2**14  # pixels whose median is taken at a time


@torch.no_grad()
def still_detail(model: Model, task: VideoTask, background: Background) -> Float[Tensor, "C d"]:
    """The constants of all pixels, to add to f; zeros where f says what there is, and where no frame shows a pixel.

    The first estimate is the median over some frames; then every frame enters through sums at each pixel, so that
    memory does not depend on the video's length. The model has the heads that `refine` has fitted.
    """
    left_over = _LeftOver(model, task, background)
    middle = _medians(left_over, model, task)
    limit = THRESHOLD * background.noise
    device = model.device
    seen, plain, near = (torch.zeros(len(model.coords), device=device) for _ in range(3))
    total = torch.zeros_like(middle)
    for rest, kept in left_over.chunks(range(len(task.signals)), "still detail"):
        within = kept & (_size(rest - middle) <= limit)
        seen += kept.sum(0)
        plain += (kept & (_size(rest) <= limit)).sum(0)
        near += within.sum(0)
        total += torch.where(within[..., None], rest, 0).sum(0)
    chosen = (seen > 0) & (_size(middle[None])[0] > limit)
    chosen &= (near >= MOST * seen) & (near - plain >= MORE * seen)
    return torch.where(chosen[:, None], total / near.clamp_min(1)[:, None], 0)


class _LeftOver:
    """What f leaves over of the frames that were fitted."""

    def __init__(self, model: Model, task: VideoTask, background: Background) -> None:
        self._task, self._code, self._device = task, background.code, model.device
        self._atoms = atoms_of(model, background.experts, model.coords)

    def chunks(self, places: Sequence[int], name: str) -> Iterator[tuple[Float[Tensor, "T C d"], Bool[Tensor, "T C"]]]:
        """Some frames at a time, less f, and which pixels are known."""
        task = self._task
        with tqdm(total=len(places), desc=name, unit="frame", disable=not sys.stderr.isatty()) as progress:
            for part in frame_chunks(task, places, self._device, _FLOATS):
                frames = [task.signals[place] for place in part]
                codes = self._code.values[part], self._code.bias[part]
                estimate = torch.einsum("tj,jcd->tcd", codes[0], self._atoms) + codes[1][:, None]
                values, kept = task.values(frames, self._device), task.weights(frames, self._device)
                yield values - estimate, kept > 0
                progress.update(len(part))


def _medians(left_over: _LeftOver, model: Model, task: VideoTask) -> Float[Tensor, "C d"]:
    """Median of what is left over at each pixel and channel; zeros where no frame shows it."""
    pixels, channels = len(model.coords), model.channels
    count = max(3, min(_LOOKS, len(task.signals), _BYTES // (2 * pixels * channels)))
    places = torch.linspace(0, len(task.signals) - 1, count).round().long().unique().tolist()
    unknown = float("nan")
    # Half precision: a tenth of a grey level, which the sums over all frames make good.
    looks = torch.cat(
        [
            torch.where(kept[..., None], rest, unknown).half()
            for rest, kept in left_over.chunks(places, "still detail, first look")
        ]
    )
    medians = [part.float().nanmedian(0).values for part in looks.split(_PART, 1)]
    return torch.cat(medians).nan_to_num(0.0)


def _size(rest: Float[Tensor, "T C d"]) -> Float[Tensor, "T C"]:
    """Root mean square over the channels, as the foreground's rule takes it."""
    return rest.square().mean(2).sqrt()
