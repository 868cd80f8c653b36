"""What a method makes of a video, and its figures."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.evaluation.measuring import peak_bytes, timed
from nid_dist.evaluation.report import Row
from nid_dist.tasks.comparison import Reconstruction
from nid_dist.tasks.video.decomposition.foreground import deviation, foreground_mask, noise_level
from nid_dist.tasks.video.median import median_times_gain, temporal_median
from nid_dist.tasks.video.metrics import Detection, best_detection, detection
from nid_dist.tasks.video.pcp import principal_component_pursuit
from nid_dist.tasks.video.synthetic_clip import Clip

_CPU = torch.device("cpu")
Frames = Float32[np.ndarray, "T H W d"]


@dataclass(frozen=True)
class Separation:
    """What a method made of a video."""

    background: Frames  # of every frame, in [0, 1]
    noise: float  # standard deviation of what it leaves over where nothing moves
    bytes: int  # of what it stores of the background
    left_out: dict[str, float] = field(default_factory=dict)  # PSNR on what it was not shown, where there is such
    pixels: Callable[[int], Float32[np.ndarray, "H W"]] | None = (
        None  # the noise of a frame's pixels, where it is known
    )

    def mask(self, place: int, frame: Float32[np.ndarray, "H W d"]) -> Bool[np.ndarray, "H W"]:
        """What is in front of the background of a frame, by the noise that was found."""
        noise = self.noise if self.pixels is None else self.pixels(place)
        return foreground_mask(frame - self.background[place], noise)


def figures(found: Separation, frames: Frames, truth: Clip | None) -> Row:
    """What is noted of a separation; no detection without the truth."""
    row: dict[str, Any] = dict(zip(("frames", "rows", "columns"), frames.shape, strict=False))
    left_over = frames - found.background
    if truth is not None:
        row["background_db"] = psnr(found.background, truth.background)
        pictures = zip(found.background, truth.background, strict=True)
        row["background_ssim"] = float(np.mean([ssim(estimate, target) for estimate, target in pictures]))
        best = best_detection(zip(deviation(left_over), truth.foreground, strict=True))
        masks = [found.mask(place, frame) for place, frame in enumerate(frames)]
        fixed = detection(zip(masks, truth.foreground, strict=True), found.noise)
        row |= {"f_measure": best.f_measure, "threshold": best.threshold, "f_measure_by_rule": fixed.f_measure}
        row |= {"precision": fixed.precision, "recall": fixed.recall}
        pausing = _pausing(deviation(left_over), truth, best.threshold)
        row |= {"f_measure_pausing": pausing.f_measure, "recall_pausing": pausing.recall}
    # A camera gives 8 bits a sample.
    row |= {"noise": found.noise, "bytes": found.bytes, "bytes_relative": found.bytes / frames.size}
    return row | found.left_out


def _pausing(deviations: Float32[np.ndarray, "T H W"], truth: Clip, threshold: float) -> Detection:
    """What is found in the lane of the sprite that pauses."""
    lane = truth.pausing.any((0, 2))
    masks = zip(deviations[:, lane] > threshold, truth.foreground[:, lane], strict=True)
    return detection(masks, threshold)


def by_pursuit(frames: Frames, _: float | None = None) -> Reconstruction:
    """Principal component pursuit, frames as columns; its sparse part is what it leaves over."""
    flat = torch.from_numpy(frames).flatten(1).t()
    found, costs = costs_of(lambda: principal_component_pursuit(flat))

    def separation() -> Separation:
        background = found.low_rank.t().reshape(frames.shape).clamp(0, 1).contiguous().numpy()
        return Separation(background, _noise(frames, background), 4 * found.rank * (flat.shape[0] + flat.shape[1]))

    return Reconstruction(separation, costs)


def by_median(frames: Frames, _: float | None = None) -> Reconstruction:
    """The temporal median, one background for all frames."""
    found, costs = costs_of(lambda: temporal_median(frames))

    def separation() -> Separation:
        background = np.broadcast_to(found, frames.shape).copy()
        return Separation(background, _noise(frames, background), frames[0].size)

    return Reconstruction(separation, costs)


def by_median_times_gain(frames: Frames, _: float | None = None) -> Reconstruction:
    """The temporal median times one gain a frame."""
    found, costs = costs_of(lambda: median_times_gain(frames))
    return Reconstruction(lambda: Separation(found, _noise(frames, found), frames[0].size + 4 * len(frames)), costs)


def _noise(frames: Frames, background: Frames) -> float:
    """As the robust fit takes it: from the median deviation of a frame, in the middle over frames."""
    pairs = zip(frames, background, strict=True)
    middle = float(np.median([np.median(deviation(frame - behind)) for frame, behind in pairs]))
    return noise_level(middle, frames.shape[3])


def costs_of(run: Callable[[], Any], device: torch.device = _CPU) -> tuple[Any, dict[str, float]]:
    """What something gives, the seconds that it takes, and the bytes of its device that it needs at most."""
    kept: list[tuple[Any, float]] = []
    memory = peak_bytes(lambda: kept.append(timed(run, device)), device)
    found, seconds = kept[0]
    return found, {"seconds": seconds, "memory_bytes": memory}
