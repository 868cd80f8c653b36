"""Still detail that is finer than the trunk resolves: to the background belongs a constant of its own for each pixel.

f is smooth, and the grain of a wall or a tripod a pixel wide is not. What f cannot say of it is left over in the same
way in frame after frame, whereas what passes by is gone. A constant is supported by the share of a pixel's frames that
agree with it, and by the span from the first to the last time that they do: what was there before and after something
rested is behind it. Where one has clearly more support than f alone it is taken; elsewhere it is what f is off by on
the frames that f explains. Frames are judged a few in a row at a time, by their median, so that a pale thing at rest is
told from the wall behind it. The constant is the mean under Tukey's weights, and is shrunk by what it is itself in
doubt: as in Wiener's filter, by the energy of the details around it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import uniform_filter
from torch import Tensor
from torch.nn.functional import avg_pool2d

from nid_dist.coding.solvers.irls import robust_weights
from nid_dist.detail.detail import Detail
from nid_dist.detail.splines import SplineGrid
from nid_dist.model import Model
from nid_dist.progress import phase
from nid_dist.tasks.video.decomposition.components import frame_chunks
from nid_dist.tasks.video.decomposition.foreground import THRESHOLD, noise_level
from nid_dist.tasks.video.decomposition.refinement import HEADS, Background, atoms_of
from nid_dist.tasks.video.task import VideoTask

MOST = 0.5
"""Support that a constant must have."""

MORE = 0.1
"""Support by which that must exceed what f has by itself."""

_BINS = 9  # of time, for the span
_IN_A_ROW = 5  # frames that are judged together, at most
_LOOKS = 48  # of which this many give the first estimate
_BYTES = 2**28  # that these may take
_FLOATS = 2**19  # of the frames that are held at a time, several times over
_PART = 2**14  # pixels whose frames are compared at a time
_TURNS = 3  # of the mean and its weights
_AROUND = 5  # pixels along each side, over which the energy of details is taken
_ALONE = 9.0  # times the energy of its doubt: a detail that needs no others beside it
_WATCHED = 128  # frames that tell the noise of each pixel, at most
_LOUDEST = 4.0  # times the scene's noise, that a pixel may have
_GROWING = 8  # rounds, in each of which it grows up to twofold
_BEYOND = 3.0  # standard deviations beyond that of doubt the energy around has to be


@dataclass(frozen=True)
class StillDetail:
    """Of a scene."""

    splines: Detail  # to add to f, linear, one a pixel; zeros where f says what there is, and where no frame shows it
    noise: float  # standard deviation of what is left over then where nothing moves, in the frames' units
    noise_of_pixels: Float[Tensor, "H W"]  # the same of each pixel, which is not below that


@torch.no_grad()
def still_detail(model: Model, task: VideoTask, background: Background, frames: Sequence[int]) -> StillDetail:
    """The constants of all pixels of a scene, of whose fitted frames each enters through sums at each pixel.

    So memory does not depend on the video's length. The model has the heads that `refine` has fitted.
    """
    left_over = _LeftOver(model, task, background, frames)
    centre, noise, limit = _first_look(left_over, model)
    bins = min(_BINS, left_over.rows)
    seen, plain, near = (torch.zeros(bins, len(model.coords), device=model.device) for _ in range(3))
    done = 0
    for _, kept, middle in left_over.chunks(range(left_over.rows), "still detail"):
        places = torch.arange(done, done + len(middle), device=model.device) * bins // left_over.rows
        done += len(middle)
        by_f, by_constant = _size(middle) <= limit, _size(middle - centre) <= limit
        for into, which in ((seen, kept.any(1)), (plain, by_f), (near, by_constant)):
            into.index_add_(0, places, which.float())
    support = _support(near, seen)
    chosen = (support >= MOST) & (support - _support(plain, seen) >= MORE)
    centre = torch.where(chosen[:, None], centre, 0)
    doubt = torch.zeros_like(support)
    for turn in range(_TURNS):
        weight, square, total = torch.zeros_like(doubt), torch.zeros_like(doubt), torch.zeros_like(centre)
        for rest, kept, middle in left_over.chunks(range(left_over.rows), f"still detail {turn + 1}/{_TURNS}"):
            agree = kept & (_size(middle - centre) <= limit)[:, None]
            size = _size(rest - centre).flatten(0, 1)
            weights = robust_weights(size, size.new_full((len(size), 1), HEADS * noise), "tukey")
            trust = agree * weights.unflatten(0, agree.shape[:2])
            weight, square = weight + trust.sum((0, 1)), square + trust.square().sum((0, 1))
            total += (trust[..., None] * rest).sum((0, 1))
        centre = torch.where(weight[:, None] > 0, total / weight.clamp_min(1e-6)[:, None], centre)
        doubt = noise**2 * square / weight.square().clamp_min(1e-12)
    centre = torch.where((seen.sum(0) > 0)[:, None], centre, 0)
    values = centre * _shrinkage(centre, doubt, model.grid_shape)[:, None]
    splines = Detail((SplineGrid.on_pixels(model.grid_shape),), values[None])
    return StillDetail(splines, noise, _noise_of_pixels(left_over, values, noise, model.grid_shape))


def _noise_of_pixels(
    left_over: "_LeftOver", still: Float[Tensor, "C d"], noise: float, grid: Sequence[int]
) -> Float[Tensor, "H W"]:
    """The noise that each pixel has, as its surroundings have it, too: the scene's, or as much more as its frames show.

    Compression leaves more of it at edges than on walls, and a mask that one level decides flickers there. It grows
    from the scene's noise by what is not foreground at the level that has been reached, above the background and below
    it apart: noise lies on both sides, and what rests for half of the time on one. The quieter side counts.
    """
    most = min(_WATCHED, _BYTES // (2 * still.numel()))
    count = max(1, min(most // left_over.in_a_row, left_over.rows))
    places = torch.linspace(0, left_over.rows - 1, count).round().long().unique().tolist()
    parts = [
        torch.where(kept[..., None], rest - still, float("inf")).flatten(0, 1).half()
        for rest, kept, _ in left_over.chunks(places, "noise of pixels")
    ]
    found = list[Tensor]()
    for part in torch.cat(parts).split(_PART, 1):
        values, own = part.float(), still.new_full((part.shape[1],), noise)
        sizes = _size(values)
        for _ in range(_GROWING):
            near = (sizes <= THRESHOLD * own)[..., None]
            above, below = (_mean_square(values, near & side) for side in (values > 0, values <= 0))
            least = torch.minimum(above, below).nan_to_num(posinf=noise**2)
            own = least.mean(1).sqrt().clamp(noise, _LOUDEST * noise)
        found.append(own)
    around = avg_pool2d(
        torch.cat(found).unflatten(0, tuple(grid))[None], _AROUND, 1, _AROUND // 2, count_include_pad=False
    )
    return around[0]


def _mean_square(values: Float[Tensor, "K C d"], chosen: Bool[Tensor, "K C d"]) -> Float[Tensor, "C d"]:
    """Over those of the frames that are chosen; infinite where they are less than two."""
    count = chosen.sum(0)
    return torch.where(count > 1, torch.where(chosen, values, 0).square().sum(0) / count.clamp_min(1), float("inf"))


class _LeftOver:
    """What f leaves over of the fitted frames of a scene."""

    def __init__(self, model: Model, task: VideoTask, background: Background, frames: Sequence[int]) -> None:
        self._task, self._code, self._device, self._frames = task, background.code, model.device, frames
        self._atoms = atoms_of(model, background.experts, model.coords)

        self.in_a_row = max(1, min(_IN_A_ROW, len(frames) // _BINS))
        self.rows = len(frames) // self.in_a_row
        """Numbers of rows of frames; the last one may have more than the others, of which some have no say."""

    def chunks(
        self, rows: Sequence[int], name: str
    ) -> Iterator[tuple[Float[Tensor, "R r C d"], Bool[Tensor, "R r C"], Float[Tensor, "R C d"]]]:
        """Frames less f, some rows at a time, which pixels are known, and the median of each row."""
        task, count = self._task, self.in_a_row
        with phase(name, len(rows) * count, "frames") as progress:
            for part in frame_chunks(task, rows, self._device, _FLOATS // count):
                places = [row * count + each for row in part for each in range(count)]
                frames = [self._frames[place] for place in places]
                codes = self._code.values[places], self._code.bias[places]
                estimate = torch.einsum("tj,jcd->tcd", codes[0], self._atoms) + codes[1][:, None]
                kept = (task.weights(frames, self._device) > 0).unflatten(0, (len(part), count))
                rest = (task.values(frames, self._device) - estimate).unflatten(0, (len(part), count))
                yield rest, kept, _middle(rest, kept) if task.section.video.missing_pixels else _median(rest)
                progress.advance(len(places))


def _first_look(left_over: _LeftOver, model: Model) -> tuple[Float[Tensor, "C d"], float, float]:
    """What most of some rows of frames leave over at each pixel, zeros where none shows it.

    It is the row that others support the most: a median would be between two of them, or what rests. Also the noise of
    a frame, and how far the median of a row may be from what it agrees with.
    """
    pixels, channels = len(model.coords), model.channels
    count = max(3, min(_LOOKS, left_over.rows, _BYTES // (2 * pixels * channels)))
    places = torch.linspace(0, left_over.rows - 1, count).round().long().unique().tolist()
    # Half precision: a tenth of a grey level, which the sums over all frames make good.
    parts = list[Tensor]()
    spreads = list[Tensor]()
    for rest, kept, middle in left_over.chunks(places, "still detail, first look"):
        parts.append(middle.half())
        if rest.shape[1] > 1:
            change = torch.where(kept[:, 1:] & kept[:, :-1], _size(rest.diff(dim=1)), float("nan"))
            spreads.append(change.flatten(1).nanmedian(1).values)
    looks = torch.cat(parts)
    middle = torch.cat([part.float().nanmedian(0).values for part in looks.split(_PART, 1)])
    deviations = [_size(part.float() - own).flatten() for part, own in _split(looks, middle)]
    # The median is one of the rows, or between two: what they are off by is less than their noise.
    spread = noise_level(float(torch.cat(deviations).nanmedian()), channels) / (1 - 1 / max(2, len(looks))) ** 0.5
    noise = noise_level(float(torch.cat(spreads).nanmedian()) / 2**0.5, channels) if spreads else spread
    # A video codec copies what hardly changes: what it is off by stays, and frames in a row do not tell.
    noise = max(noise, spread)
    limit = THRESHOLD * max(spread, 1e-6)
    found = []
    for part, _ in _split(looks, middle):
        values = part.float()
        bins = torch.arange(len(values), device=values.device) * min(_BINS, len(values)) // len(values)
        votes = torch.stack([_votes(values, each, bins, 2**0.5 * limit) for each in values])
        found.append(values.gather(0, votes.argmax(0)[None, :, None].expand(1, -1, channels))[0])
    return torch.cat(found).nan_to_num(0.0), max(noise, 1e-6), limit


def _votes(
    looks: Float[Tensor, "K c d"], one: Float[Tensor, "c d"], bins: Int[Tensor, "K"], limit: float
) -> Float[Tensor, "c"]:
    """The support that looks give to one of them."""
    agree, known = _size(looks - one) <= limit, ~looks.isnan().any(2)
    count = looks.new_zeros(2, int(bins[-1]) + 1, looks.shape[1])
    return _support(*(into.index_add_(0, bins, each.float()) for into, each in zip(count, (agree, known), strict=True)))


def _support(agree: Float[Tensor, "B C"], seen: Float[Tensor, "B C"]) -> Float[Tensor, "C"]:
    """Of what agrees with so many of the frames that are seen in each part of the time, in [0, 1]."""
    share = agree.sum(0) / seen.sum(0).clamp_min(1)
    there = (agree >= seen / 2) & (agree > 0)
    places = torch.arange(len(agree), device=agree.device)[:, None]
    first, last = torch.where(there, places, len(agree)).amin(0), torch.where(there, places, -1).amax(0)
    return (share + (last - first + 1).clamp_min(0) / len(agree)) / 2


def _middle(rest: Float[Tensor, "R r C d"], kept: Bool[Tensor, "R r C"]) -> Float[Tensor, "R C d"]:
    """The median of each row, in which the mean of the others stands for what is unknown; where all is, no number."""
    count = kept.sum(1)[..., None]
    mean = torch.where(kept[..., None], rest, 0).sum(1) / count
    return _median(torch.where(kept[..., None], rest, mean[:, None]))


def _median(rest: Float[Tensor, "R r C d"]) -> Float[Tensor, "R C d"]:
    """Over few frames, by exchanges of neighbours, which takes a seventh of a sort's time; of two the lower one."""
    rows = list(rest.unbind(1))
    for first in range((len(rows) + 1) // 2):
        for place in range(len(rows) - 1, first, -1):
            lower = torch.minimum(rows[place - 1], rows[place])
            rows[place - 1], rows[place] = lower, torch.maximum(rows[place - 1], rows[place])
    return rows[(len(rows) - 1) // 2]


def _split(
    looks: Float[Tensor, "K C d"], middle: Float[Tensor, "C d"]
) -> Iterator[tuple[Float[Tensor, "K c d"], Float[Tensor, "c d"]]]:
    yield from zip(looks.split(_PART, 1), middle.split(_PART), strict=True)


def _shrinkage(centre: Float[Tensor, "C d"], doubt: Float[Tensor, "C"], grid: Sequence[int]) -> Float[Tensor, "C"]:
    """How much of the constants is kept, in [0, 1]: the share of their energy that is not doubt."""
    energy, own = (part.double().cpu().numpy().reshape(grid) for part in (centre.square().mean(1), doubt))
    own = np.maximum(own, 1e-12)
    alone = energy > _ALONE * own
    counted = uniform_filter((~alone).astype(float), _AROUND, mode="nearest")
    around, expected = (uniform_filter(np.where(alone, 0, part), _AROUND, mode="nearest") for part in (energy, own))
    ratio = np.where(expected > 0, around / np.maximum(expected, 1e-300), 0)
    samples = np.maximum(counted * _AROUND**2 * centre.shape[1], 1)
    kept = np.where(ratio > 1 + _BEYOND * np.sqrt(2 / samples), 1 - 1 / np.maximum(ratio, 1), 0)
    kept = np.where(alone, np.maximum(kept, 1 - own / np.maximum(energy, 1e-12)), kept)
    return torch.from_numpy(kept.reshape(-1)).to(centre)


def _size(rest: Float[Tensor, "*C d"]) -> Float[Tensor, "*C"]:
    """Root mean square over the channels, as the foreground's rule takes it."""
    return rest.square().mean(-1).sqrt()
