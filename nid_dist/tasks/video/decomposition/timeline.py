"""Codes between frames: f as a function of time, too."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.gates.temporal import TemporalGate
from nid_dist.model import Model
from nid_dist.tasks.video.decomposition.refinement import Background
from nid_dist.tasks.video.light import Light


class Timeline:
    """The background's code at any time, at that time's light.

    Between frames, and where a frame is missing, codes are interpolated linearly. Of a temporal gate only what the
    robust fit has corrected is: between frames it says itself what happens. `times`, of the background's frames,
    ascend, `whole` are those of the first and last frame of the video, all in seconds. `light` is that of these frames,
    which the background's code does not know; None: constant.
    """

    def __init__(
        self,
        model: Model,
        background: Background,
        times: Float64[np.ndarray, "T"],
        whole: tuple[float, float],
        light: Light | None = None,
    ) -> None:
        self._times, self._whole = times, whole
        self._light = Light.constant(len(times)) if light is None else light
        self._experts = torch.tensor(background.experts, device=model.device)
        self._gate = model.gate if isinstance(model.gate, TemporalGate) else None
        self._rows = torch.cat([background.code.values, background.code.bias], 1) - self._predicted(times)

    def at(self, times: Sequence[float]) -> Code:
        """One code per moment, in seconds; before the first frame and after the last they stand still."""
        moments = np.asarray(times, np.float64)
        after = np.searchsorted(self._times, moments).clip(1, max(1, len(self._times) - 1))
        last = min(1, len(self._times) - 1)
        before = after - 1
        gap = self._times[after * last] - self._times[before]
        share = ((moments - self._times[before]) / np.where(gap > 0, gap, 1)).clip(0, 1)
        weight = torch.from_numpy(share).to(self._rows)[:, None]
        rows = (1 - weight) * self._rows[before] + weight * self._rows[after * last] + self._predicted(moments)
        count, gains = len(self._experts), torch.from_numpy(self.gains(times)).to(rows)[:, None]
        offsets = torch.from_numpy(np.interp(moments, self._times, self._light.offsets)).to(rows)[:, None]
        return Code(gains * rows[:, :count], gains * rows[:, count:] + offsets, self._experts.expand(len(rows), -1))

    def gains(self, times: Sequence[float]) -> Float64[np.ndarray, "M"]:
        """How bright the scene is at times in seconds, relative to how it has been learned."""
        gains: Float64[np.ndarray, "M"] = np.interp(times, self._times, self._light.gains)
        return gains

    @torch.no_grad()
    def _predicted(self, moments: Float64[np.ndarray, "M"]) -> Float[Tensor, "M p"] | float:
        """The gate's own coefficients and biases."""
        if self._gate is None:
            return 0.0
        first, last = self._whole
        scaled = torch.from_numpy((2 * (moments - first) / max(last - first, 1e-12) - 1).clip(-1, 1)).float()
        output = self._gate.at(scaled.to(self._experts.device))
        return torch.cat([output.logits[:, self._experts], output.bias], 1)
