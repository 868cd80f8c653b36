"""From a trained model and its video to background, transients and foreground, frame by frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.memory import floats_at_once
from nid_dist.model import Model
from nid_dist.tasks.images.preparation import resized
from nid_dist.tasks.video.decomposition.components import activations, background_experts, gate_codes
from nid_dist.tasks.video.decomposition.detail import still_detail
from nid_dist.tasks.video.decomposition.foreground import foreground_mask
from nid_dist.tasks.video.decomposition.refinement import Background, atoms_of, refine
from nid_dist.tasks.video.decomposition.timeline import Timeline
from nid_dist.tasks.video.task import VideoTask

_FLOATS = 2**25  # of the backgrounds of moments that are fetched from a device at a time


@dataclass(frozen=True)
class Moment:
    """What there is to see at a time."""

    time: float  # in seconds
    frame: Float32[np.ndarray, "H W d"] | None  # the video's, at the output's size; None where it is missing
    background: Float32[np.ndarray, "H W d"]  # f's, with the still detail
    transients: Float32[np.ndarray, "H W d"]  # what is left over, signed; zeros where the frame is missing
    foreground: Bool[np.ndarray, "H W"]  # where that is more than noise


class Decomposition:
    """A video taken apart by a model trained on it, whose heads of the background's experts are changed in place.

    `rounds` are those of the robust fit; None: as many as usual.
    """

    def __init__(self, model: Model, task: VideoTask, rounds: int | None = None) -> None:
        self.model, self.task = model, task
        self.active: Float[torch.Tensor, "T n"] = activations(model, gate_codes(model, task))
        """Strength of every component in every fitted frame, as trained."""
        experts = background_experts(self.active, model.support)
        self.background: Background = (
            refine(model, task, experts) if rounds is None else refine(model, task, experts, rounds)
        )
        rows, columns = model.grid_shape[0], model.grid_shape[1]
        self.detail: Float32[np.ndarray, "H W d"] = (
            still_detail(model, task, self.background).unflatten(0, (rows, columns)).cpu().numpy()
        )
        """What belongs to the background and is finer than f resolves; zeros at most pixels."""
        times = task.video.times
        self.times = times[task.signals]
        self._details: dict[tuple[int, int], Float32[np.ndarray, "H W d"]] = {}
        self.timeline = Timeline(model, self.background, self.times, (float(times[0]), float(times[-1])))

    @property
    def bytes(self) -> int:
        """Of the background alone, in float32: trunk, heads of its experts, codes, and still detail with its places."""
        dictionary, code = self.model.dictionary, self.background.code
        expert = sum(tensor[:1].numel() for tensor in dictionary.experts.tensors)
        trunk = sum(parameter.numel() for parameter in dictionary.trunk.parameters())
        detail = int(self.detail.any(2).sum()) * (1 + self.detail.shape[2])
        return 4 * (trunk + len(self.background.experts) * expert + code.values.numel() + code.bias.numel() + detail)

    def at_frames(self) -> Iterator[Moment]:
        """The video's own frames and pixels: background and transients add up to it."""
        own = self.atoms((self.model.grid_shape[0], self.model.grid_shape[1]))
        times = self.task.video.times.tolist()
        return self._moments(times, range(len(times)), own, own)

    def at(self, rate: float, size: tuple[int, int]) -> Iterator[Moment]:
        """Moments, `rate` per second from the first frame to the last, of any size in rows and columns.

        The background is f at these times and pixels. Still detail and transients have been measured at the frames'
        pixels only: they are interpolated between these, the transients of the nearest frame.
        """
        times = self.task.video.times
        atoms, own = self.atoms(size), self.atoms((self.model.grid_shape[0], self.model.grid_shape[1]))
        moments = [
            float(times[0] + count / rate) for count in range(int(np.floor((times[-1] - times[0]) * rate + 1e-6)) + 1)
        ]
        nearest = [int(np.abs(times - time).argmin()) for time in moments]
        return self._moments(moments, nearest, atoms, own)

    def render(self, time: float, atoms: Float[torch.Tensor, "J H W d"]) -> Float32[np.ndarray, "H W d"]:
        """The background at a time in seconds: f with the still detail, not clipped; `atoms` as from `atoms`."""
        return self._render([time], atoms)[0]

    def _render(self, times: Sequence[float], atoms: Float[torch.Tensor, "J H W d"]) -> Float32[np.ndarray, "M H W d"]:
        code, (rows, columns) = self.timeline.at(times), atoms.shape[1:3]
        smooth = torch.einsum("tj,jhwd->thwd", code.values, atoms) + code.bias[:, None, None]
        if (rows, columns) not in self._details:
            self._details[rows, columns] = resized(self.detail, rows, columns)
        pictures: Float32[np.ndarray, "M H W d"] = smooth.cpu().numpy() + self._details[rows, columns]
        return pictures

    def atoms(self, size: tuple[int, int]) -> Float[torch.Tensor, "J H W d"]:
        """The atoms of `background.experts` on a grid of any size (rows, columns), evaluated once for all moments."""
        coords = coordinate_grid(size).to(self.model.device)
        return atoms_of(self.model, self.background.experts, coords).unflatten(1, size)

    def _moments(
        self,
        times: Sequence[float],
        nearest: Sequence[int],
        atoms: Float[torch.Tensor, "J H W d"],
        own: Float[torch.Tensor, "J h w d"],
    ) -> Iterator[Moment]:
        """The moments at some times, with their nearest frames: one at a time on the CPU, many on a device."""
        most = min(floats_at_once(self.model.device, 1), _FLOATS) // atoms[0].numel()
        for first in range(0, len(times), max(1, most)):
            part = slice(first, first + max(1, most))
            backgrounds = self._render(times[part], atoms)
            at_frames = [float(self.task.video.times[index]) for index in nearest[part]]
            same = atoms is own and at_frames == list(times[part])
            behind = backgrounds if same else self._render(at_frames, own)
            for place, index in enumerate(nearest[part]):
                yield self._moment(times[first + place], index, backgrounds[place], behind[place])

    def _moment(
        self, time: float, index: int, background: Float32[np.ndarray, "H W d"], behind: Float32[np.ndarray, "h w d"]
    ) -> Moment:
        (rows, columns), video = background.shape[:2], self.task.video
        if not video.present[index]:
            return Moment(time, None, background, np.zeros_like(background), np.zeros((rows, columns), bool))
        frame = video.read([index])[0]
        left_over = frame - behind
        mask = foreground_mask(left_over, self.background.noise)
        if (rows, columns) != frame.shape[:2]:
            frame, left_over = resized(frame, rows, columns), resized(left_over, rows, columns)
            mask = resized(mask[..., None].astype(np.float32), rows, columns)[..., 0] > 0.5
        return Moment(time, frame, background, left_over, mask)
