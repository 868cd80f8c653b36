"""From a trained model and its video to background, transients and foreground, frame by frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from nid_dist.code import Code
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.detail.detail import Detail
from nid_dist.memory import floats_at_once
from nid_dist.model import Model
from nid_dist.progress import phase
from nid_dist.tasks.images.preparation import resized
from nid_dist.tasks.video.decomposition.components import activations, gate_codes, scene_experts
from nid_dist.tasks.video.decomposition.detail import still_detail
from nid_dist.tasks.video.decomposition.foreground import foreground_mask
from nid_dist.tasks.video.decomposition.refinement import ROUNDS, Background, atoms_of, refine
from nid_dist.tasks.video.decomposition.timeline import Timeline
from nid_dist.tasks.video.light import Light
from nid_dist.tasks.video.shots import scenes_of
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


@dataclass(frozen=True)
class Scene:
    """The background of the frames of one scene, at the scene's own light."""

    frames: list[int]  # numbers in the video, ascending
    fitted: list[int]  # those of them that were looked at
    background: Background  # of the fitted ones
    splines: Detail  # what belongs to it and is finer than f resolves, one a pixel; zeros at most of them
    noise: Float32[np.ndarray, "H W"]  # standard deviation of each pixel where nothing moves
    timeline: Timeline

    @property
    def detail(self) -> Float32[np.ndarray, "H W d"]:
        """What the splines say at the frames' pixels."""
        found: np.ndarray = self.splines.values[0].unflatten(0, self.splines.grids[0].shape).numpy()
        return found

    def detail_at(self, rows: int, columns: int) -> Float32[np.ndarray, "H W d"]:
        """The same on a grid of any size, continued by its edge."""
        last = 1 - 1 / torch.tensor(self.splines.grids[0].shape)
        coords = coordinate_grid((rows, columns)).clamp(-last, last)
        found: np.ndarray = self.splines(coords)[0].unflatten(0, (rows, columns)).numpy()
        return found


class Decomposition:
    """A video taken apart by a model trained on it, whose heads of the background's experts are changed in place.

    What is behind frame t is f with its code, which knows its light, plus the still detail of its scene times its gain.

    `rounds` are those of the robust fit; None: as many as usual.

    Raises:
        UserError: when there are more scenes than experts.
    """

    def __init__(self, model: Model, task: VideoTask, rounds: int | None = None) -> None:
        self.model, self.task = model, task
        with phase("cuts and light"):
            scenes, light = scenes_of(task.shots), task.light
        self.active: Float[torch.Tensor, "T n"] = activations(model, gate_codes(model, task))
        """Strength of every component in every fitted frame, as trained."""
        self.times = task.video.times[task.signals]
        self.scenes: list[Scene] = []
        place = {frame: row for row, frame in enumerate(task.signals)}
        taken = list[int]()
        for frames in scenes:
            fitted = [frame for frame in frames if frame in place]
            active = self.active[[place[frame] for frame in fitted]]
            experts = scene_experts(model, active, taken, len(scenes))
            taken += experts
            own = Light(light.gains[fitted], light.offsets[fitted])
            self.scenes.append(self._scene(frames, fitted, experts, own, ROUNDS if rounds is None else rounds))
        self._scene_at = np.zeros(len(task.video.times), int)
        for number, scene in enumerate(self.scenes):
            self._scene_at[scene.frames] = number
        self._details: dict[tuple[int, int], Float32[np.ndarray, "S H W d"]] = {}
        self.background = self._together()
        """Of all fitted frames, at their own light; its coefficients are those of the experts of all scenes."""

    def _scene(self, frames: list[int], fitted: list[int], experts: list[int], light: Light, rounds: int) -> Scene:
        model, task, times = self.model, self.task, self.task.video.times
        background = refine(model, task, experts, fitted, rounds)
        found = still_detail(model, task, background, fitted)
        background = replace(background, noise=found.noise)
        timeline = Timeline(model, background, times[fitted], (float(times[0]), float(times[-1])), light)
        # Pictures are put together on the CPU, where the splines stay: they are fetched once and not for every size.
        splines, noise = found.splines.to("cpu"), found.noise_of_pixels.cpu().numpy()
        return Scene(frames, fitted, background, splines, noise, timeline)

    def _together(self) -> Background:
        experts = [expert for scene in self.scenes for expert in scene.background.experts]
        values, bias = self._codes(self.times.tolist())[:2]
        indices = torch.tensor(experts, device=values.device).expand(len(values), -1)
        weights = [len(scene.fitted) for scene in self.scenes]
        noise = float(np.average([scene.background.noise for scene in self.scenes], weights=weights))
        return Background(experts, Code(values, bias, indices), noise)

    @property
    def bytes(self) -> int:
        """Of the background alone: trunk, heads of its experts, codes and light in float32, still detail in float16.

        The detail is kept with its places, or as a picture, whichever is less.
        """
        dictionary, code = self.model.dictionary, self.background.code
        expert = sum(tensor[:1].numel() for tensor in dictionary.experts.tensors)
        trunk = sum(parameter.numel() for parameter in dictionary.trunk.parameters())
        codes = (
            sum(scene.background.code.values.numel() for scene in self.scenes) + code.bias.numel() + 2 * len(code.bias)
        )
        details = [scene.detail for scene in self.scenes]
        detail = sum(min(each.any(2).sum() * (4 + 2 * each.shape[2]), 2 * each.size) for each in details)
        return 4 * (trunk + len(self.background.experts) * expert + codes) + int(detail)

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
        values, bias, gains, scenes = self._codes(times)
        rows, columns = atoms.shape[1:3]
        smooth = torch.einsum("tj,jhwd->thwd", values, atoms) + bias[:, None, None]
        if (rows, columns) not in self._details:
            self._details[rows, columns] = np.stack([scene.detail_at(rows, columns) for scene in self.scenes])
        pictures: Float32[np.ndarray, "M H W d"] = smooth.cpu().numpy()
        for picture, gain, scene in zip(pictures, gains, scenes, strict=True):
            picture += gain * self._details[rows, columns][scene]
        return pictures

    def _codes(
        self, times: Sequence[float]
    ) -> tuple[Float[torch.Tensor, "M J"], Float[torch.Tensor, "M d"], Float32[np.ndarray, "M"], Int[np.ndarray, "M"]]:
        """Coefficients of all scenes' experts and biases, at the light of times; gains; the nearest frames' scenes."""
        nearest = np.abs(self.task.video.times[None] - np.asarray(times)[:, None]).argmin(1)
        scenes = self._scene_at[nearest]
        starts = np.cumsum([0, *(len(scene.background.experts) for scene in self.scenes)])
        device, gains = self.model.device, np.ones(len(times), np.float32)
        values = torch.zeros(len(times), int(starts[-1]), device=device)
        bias = torch.zeros(len(times), self.model.channels, device=device)
        for number, scene in enumerate(self.scenes):
            own = np.flatnonzero(scenes == number)
            moments = [times[place] for place in own.tolist()]
            code = scene.timeline.at(moments)
            rows = torch.from_numpy(own).to(device)
            values[rows, starts[number] : starts[number + 1]] = code.values
            bias[rows] = code.bias
            gains[own] = scene.timeline.gains(moments)
        return values, bias, gains, scenes

    def noise_at(self, frame: int) -> Float32[np.ndarray, "H W"]:
        """Standard deviation of each pixel where nothing moves, in the scene of a frame."""
        return self.scenes[self._scene_at[frame]].noise

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
        mask = foreground_mask(left_over, self.noise_at(index))
        if (rows, columns) != frame.shape[:2]:
            frame, left_over = resized(frame, rows, columns), resized(left_over, rows, columns)
            mask = resized(mask[..., None].astype(np.float32), rows, columns)[..., 0] > 0.5
        return Moment(time, frame, background, left_over, mask)
