"""From a trained model and its video to background, transients and foreground, frame by frame."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from nid_dist.data.lattice import lattice
from nid_dist.data.preparation import resized
from nid_dist.decomposition.components import activations, background_experts, gate_codes
from nid_dist.decomposition.foreground import foreground_mask
from nid_dist.decomposition.refinement import Background, atoms_of, refine
from nid_dist.decomposition.timeline import Timeline
from nid_dist.model import Model
from nid_dist.tasks.video import VideoTask


@dataclass(frozen=True)
class Moment:
    """What there is to see at a time.

    Args:
        time: in seconds.
        frame: the video's, at the output's size; None where it is missing.
        background: f's.
        transients: what is left over, signed; zeros where the frame is missing.
        foreground: where that is more than noise.
    """

    time: float
    frame: Float32[np.ndarray, "H W d"] | None
    background: Float32[np.ndarray, "H W d"]
    transients: Float32[np.ndarray, "H W d"]
    foreground: Bool[np.ndarray, "H W"]


class Decomposition:
    """A video taken apart.

    Args:
        model: trained on it; the heads of the background's experts are changed in place.
        task: the video.
        rounds: of the robust fit; None: as many as usual.
    """

    def __init__(self, model: Model, task: VideoTask, rounds: int | None = None) -> None:
        self.model, self.task = model, task
        self.active: Float[torch.Tensor, "T n"] = activations(model, gate_codes(model, task))
        """Strength of every component in every fitted frame, as trained."""
        experts = background_experts(self.active, model.support)
        self.background: Background = (
            refine(model, task, experts) if rounds is None else refine(model, task, experts, rounds)
        )
        times = task.video.times
        self.times = times[task.signals]
        self.timeline = Timeline(model, self.background, self.times, (float(times[0]), float(times[-1])))

    @property
    def bytes(self) -> int:
        """Of the background alone, in float32: trunk, heads of its experts, and codes."""
        dictionary, code = self.model.dictionary, self.background.code
        expert = sum(tensor[:1].numel() for tensor in dictionary.experts.tensors)
        trunk = sum(parameter.numel() for parameter in dictionary.trunk.parameters())
        return 4 * (trunk + len(self.background.experts) * expert + code.values.numel() + code.bias.numel())

    def at_frames(self) -> Iterator[Moment]:
        """The video's own frames and pixels: background and transients add up to it."""
        own = self.atoms((self.model.grid[0], self.model.grid[1]))
        for index, time in enumerate(self.task.video.times.tolist()):
            yield self._moment(time, index, own, own)

    def at(self, rate: float, size: tuple[int, int]) -> Iterator[Moment]:
        """Any frame rate and any resolution.

        The background is f at these times and pixels. Transients have been measured at the frames only: they are those
        of the nearest frame, interpolated between its pixels.

        Args:
            rate: moments per second, from the first frame to the last.
            size: rows and columns.

        Yields:
            The moments.
        """
        times = self.task.video.times
        atoms, own = self.atoms(size), self.atoms((self.model.grid[0], self.model.grid[1]))
        for count in range(int(np.floor((times[-1] - times[0]) * rate + 1e-6)) + 1):
            time = float(times[0] + count / rate)
            yield self._moment(time, int(np.abs(times - time).argmin()), atoms, own)

    def render(self, time: float, atoms: Float[torch.Tensor, "J H W d"]) -> Float32[np.ndarray, "H W d"]:
        """The background at a time.

        Args:
            time: in seconds.
            atoms: from `atoms`.

        Returns:
            f, not clipped.
        """
        code = self.timeline.at([time])
        return (torch.einsum("j,jhwd->hwd", code.values[0], atoms) + code.bias[0]).cpu().numpy()

    def atoms(self, size: tuple[int, int]) -> Float[torch.Tensor, "J H W d"]:
        """The background's experts on a lattice of any size, evaluated once for all moments.

        Args:
            size: rows and columns.

        Returns:
            Their atoms, in the order of `background.experts`.
        """
        coords = lattice(size).to(self.model.coords.device)
        return atoms_of(self.model, self.background.experts, coords).unflatten(1, size)

    def _moment(
        self, time: float, index: int, atoms: Float[torch.Tensor, "J H W d"], own: Float[torch.Tensor, "J h w d"]
    ) -> Moment:
        rows, columns = atoms.shape[1:3]
        background, video = self.render(time, atoms), self.task.video
        if not video.present[index]:
            return Moment(time, None, background, np.zeros_like(background), np.zeros((rows, columns), bool))
        frame = video.read([index])[0]
        left_over = frame - self.render(float(video.times[index]), own)
        mask = foreground_mask(left_over, self.background.noise)
        if (rows, columns) != frame.shape[:2]:
            frame, left_over = resized(frame, rows, columns), resized(left_over, rows, columns)
            mask = resized(mask[..., None].astype(np.float32), rows, columns)[..., 0] > 0.5
        return Moment(time, frame, background, left_over, mask)
