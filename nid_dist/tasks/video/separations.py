"""What a method makes of a video, and its figures."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from nid_dist.benchmarks.harness import peak_bytes
from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.tasks.video.decomposition.foreground import deviation, foreground_mask, noise_level
from nid_dist.tasks.video.median import temporal_median
from nid_dist.tasks.video.metrics import best_detection, detection
from nid_dist.tasks.video.pcp import principal_component_pursuit
from nid_dist.tasks.video.synthetic_clip import Clip

Frames = Float32[np.ndarray, "T H W d"]


@dataclass(frozen=True)
class Separation:
    """What a method made of a video.

    Args:
        method: its name.
        background: of every frame, in [0, 1].
        noise: standard deviation of what it leaves over where nothing moves.
        seconds: it took.
        memory: bytes that it needed at most.
        bytes: of what it stores of the background.
        left_out: PSNR on what it was not shown, where there is such.
    """

    method: str
    background: Frames
    noise: float
    seconds: float
    memory: float
    bytes: int
    left_out: dict[str, float] = field(default_factory=dict)


def figures(video: str, frames: Frames, found: Separation, truth: Clip | None) -> dict[str, Any]:
    """What is noted of a separation.

    Args:
        video: its name.
        frames: of the video.
        found: by a method.
        truth: where it is known.

    Returns:
        Figures by name; None where there is no truth.
    """
    row: dict[str, Any] = {"video": video, "method": found.method}
    left_over = frames - found.background
    if truth is not None:
        row["background_db"] = psnr(found.background, truth.background)
        pictures = zip(found.background, truth.background, strict=True)
        row["background_ssim"] = float(np.mean([ssim(estimate, target) for estimate, target in pictures]))
        best = best_detection(zip(deviation(left_over), truth.foreground, strict=True))
        masks = [foreground_mask(each, found.noise) for each in left_over]
        fixed = detection(zip(masks, truth.foreground, strict=True), found.noise)
        row |= {"f_measure": best.f_measure, "threshold": best.threshold, "f_measure_by_rule": fixed.f_measure}
        row |= {"precision": fixed.precision, "recall": fixed.recall}
        row["f_measure_pausing"] = _pausing(deviation(left_over), truth, best.threshold)
    row |= {"noise": found.noise, "seconds": found.seconds, "memory_bytes": found.memory, "bytes": found.bytes}
    # A camera gives 8 bits a sample.
    return row | {"bytes_relative": found.bytes / frames.size, **found.left_out}


def _pausing(deviations: Float32[np.ndarray, "T H W"], truth: Clip, threshold: float) -> float:
    """F-measure in the lane of the sprite that pauses."""
    lane = truth.pausing.any((0, 2))
    masks = zip(deviations[:, lane] > threshold, truth.foreground[:, lane], strict=True)
    return detection(masks, threshold).f_measure


def by_pursuit(frames: Frames) -> Separation:
    """Principal component pursuit, frames as columns; its sparse part is what it leaves over."""
    flat = torch.from_numpy(frames).flatten(1).t()
    kept: dict[str, Any] = {}

    def pursue() -> None:
        kept["found"] = principal_component_pursuit(flat)

    costs = costs_of(pursue)
    found = kept["found"]
    background = found.low_rank.t().reshape(frames.shape).clamp(0, 1).contiguous().numpy()
    size = 4 * found.rank * (flat.shape[0] + flat.shape[1])
    return Separation("PCP", background, _noise(frames, background), costs["seconds"], costs["memory"], size)


def by_median(frames: Frames) -> Separation:
    """The temporal median, one background for all frames."""
    kept: dict[str, Any] = {}

    def take() -> None:
        kept["found"] = temporal_median(frames)

    costs = costs_of(take)
    background = np.broadcast_to(kept["found"], frames.shape).copy()
    noise = _noise(frames, background)
    return Separation("temporal median", background, noise, costs["seconds"], costs["memory"], frames[0].size)


def _noise(frames: Frames, background: Frames) -> float:
    """As the robust fit takes it: from the median deviation of a frame, in the middle over frames."""
    pairs = zip(frames, background, strict=True)
    middle = float(np.median([np.median(deviation(frame - behind)) for frame, behind in pairs]))
    return noise_level(middle, frames.shape[3])


def costs_of(run: Callable[[], None]) -> dict[str, float]:
    """Seconds that something takes, and bytes that it needs at most."""
    begin = time.perf_counter()
    memory = peak_bytes(run)
    return {"seconds": time.perf_counter() - begin, "memory": memory}
