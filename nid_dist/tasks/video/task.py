"""Video decomposition: frames as signals, whose codes change with time; the data term forgives what moves."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Shaped
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.gates.codebook import CodebookGate
from nid_dist.coding.gates.layers import CodeHead
from nid_dist.coding.gates.temporal import TemporalGate
from nid_dist.coding.topk import signed_top_k
from nid_dist.config.schema import Config
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.data.resident import Constant, Residents
from nid_dist.data.sampler import coordinate_subset, independent_generator
from nid_dist.device import to_device
from nid_dist.errors import UserError
from nid_dist.model import Model
from nid_dist.parallel.exchange.exchange import Exchange
from nid_dist.parallel.world import World
from nid_dist.samples import Batch, Samples
from nid_dist.tasks.base import Picture, draw, grid_prior_samples
from nid_dist.tasks.video.camera import camera_motion
from nid_dist.tasks.video.config import VideoSection
from nid_dist.tasks.video.frames import UNIT, Video
from nid_dist.tasks.video.light import Light, light_of
from nid_dist.tasks.video.shots import Shot, find_shots, scenes_of

_FRAMES = 8  # that an evaluation looks at
# The first expert's coefficient at the start; and how much smaller than a gate's usual ones all others' are.
_LEAD, _REST = 0.5, 0.1
_LEFT_OUT_PIXELS, _LEFT_OUT_FRAMES = 11, 12  # independent streams of random numbers
_LOOKED_AT = 1024  # pixels of a frame, for its light and for cuts

_CPU = torch.device("cpu")
_NOT_LOOKING = ("none", "codebook", "temporal")  # gates, for which no whole frames are read


class VideoTask:
    """The frames of a video; the background is what the first experts learn.

    `frames` is the whole video as an array, in place of `signals.path`.

    Raises:
        UserError: when there is no video to be read, or not the frames asked for.
    """

    def __init__(self, config: Config, frames: Shaped[np.ndarray, "N H W c"] | None = None) -> None:
        self.config, self.section = config, config.signals_of(VideoSection)
        self.video = Video(self.section, frames)
        self.channels = self.video.channels
        self.grid_shape: tuple[int, ...] = self.video.grid_shape
        self.coords = coordinate_grid(self.grid_shape)
        self.kept = kept_frames(config, self.video.present)
        """Whether a frame is fitted: it can be decoded, and is not left out on purpose."""
        self.signals = np.flatnonzero(self.kept).tolist()
        lengths = [len(self.coords)] * len(self.video)
        self._coords = Constant(self.coords)
        self._frames = Residents(lengths, self.channels, self.video.samples)
        self._kept_pixels = Residents(lengths, 1, self._kept_of)

    @cached_property
    def shots(self) -> list[Shot]:
        """The frames between cuts; one shot of all frames where `signals.video.cuts` says that there are none."""
        total = len(self.video)
        return find_shots(self._look, self.signals, total) if self.section.video.cuts else [Shot(range(total), 0)]

    @cached_property
    def light(self) -> Light:
        """Gain and offset of every frame, relative to its scene's."""
        if not self.section.video.light:
            return Light.constant(len(self.video))
        return light_of(self._look, scenes_of(self.shots), self.signals, self.video.times)

    @cached_property
    def _gains_and_offsets(self) -> Constant:
        return Constant(torch.from_numpy(np.stack([self.light.gains, self.light.offsets])).float())

    def _look(self, frames: Sequence[int]) -> Float32[np.ndarray, "T M"]:
        """Some pixels of frames, the same ones of all, not a number where one is left out."""
        count, pixels = len(self.coords), self._looked_at
        # Taken out before they become floats: of a large frame they are few.
        whole = np.stack([self.video.samples(frame).reshape(count, -1)[pixels] for frame in frames])
        seen = whole * UNIT
        if self.section.video.missing_pixels:
            seen[~self.kept_pixels(frames)[:, pixels]] = np.nan
        return seen.reshape(len(frames), -1)

    @cached_property
    def _looked_at(self) -> Int[np.ndarray, "p"]:
        pixels: np.ndarray = coordinate_subset(self.config.training.seed, 0, len(self.coords), _LOOKED_AT).numpy()
        return pixels

    def model(self, exchange: Exchange | None = None) -> Model:
        """A new model for these frames, all its values from the seed; one expert for each scene leads its codes.

        Raises:
            UserError: when there are more scenes than experts.
        """
        self._warn_of_shots()
        if self.section.video.light:
            self._gains_and_offsets  # noqa: B018  # found now, not in the first step
        model = Model(
            self.config, channels=self.channels, grid_shape=self.grid_shape, signals=len(self.video), exchange=exchange
        )
        if isinstance(model.gate, TemporalGate):
            model.gate.place(torch.from_numpy(self.video.times))
        _let_first_lead(model, scenes_of(self.shots))
        return model

    def _warn_of_shots(self) -> None:
        """Say what the camera does, and refuse what cannot be learned.

        Raises:
            UserError: when there are more scenes than experts.
        """
        scenes, experts, path = scenes_of(self.shots), self.config.dictionary.experts, self.video.path
        if len(self.shots) > 1:
            warnings.warn(f"{path}: {self.shots_in_words()}; each scene has a background of its own", stacklevel=3)
        if len(scenes) > experts:
            raise UserError(
                f"dictionary.experts {experts}",
                found=f"{len(scenes)} scenes in {path}",
                expected="an expert for each scene at least",
                hint=f"set dictionary.experts to {2 * len(scenes)}, or choose a shot by signals.video.start and stop",
            )
        for shot in self.shots:
            motion = camera_motion(self.video.read, [frame for frame in shot.frames if self.kept[frame]])
            if motion is not None:
                warnings.warn(
                    f"{path}: the camera moves, by {motion.pixels:.0f} pixels in {motion.frames} "
                    f"frame{'s' * (motion.frames > 1)} of {shot.frames.start} to {shot.frames.stop - 1}; what stands "
                    "still in front of it will not be told from what moves: stabilise the video first",
                    stacklevel=3,
                )
                return

    def shots_in_words(self) -> str:
        """How many there are, and which frames they have, numbered as in the file."""
        chosen = self.section.video
        at = [chosen.start + chosen.stride * shot.frames.start for shot in self.shots]
        stop = [chosen.start + chosen.stride * (shot.frames.stop - 1) for shot in self.shots]
        parts = [f"{a}-{b} (scene {shot.scene + 1})" for a, b, shot in zip(at, stop, self.shots, strict=True)]
        scenes = 1 + max(shot.scene for shot in self.shots)
        return f"{len(parts)} shots of {scenes} scene{'s' * (scenes > 1)}, frames {', '.join(parts)}"

    def batch(self, step: int, micro: int, world: World) -> Batch:
        """This rank's part of a micro-batch, which depends on (seed, step, micro) only."""
        chosen = draw(self.config, step, micro, world, len(self.signals))
        chosen = replace(chosen, ids=torch.tensor(self.signals)[chosen.ids])
        frames, device, where = chosen.ids.tolist(), world.device, chosen.coordinates(len(self.coords))
        coords = self._coords.on(device)
        values, weights = self.values(frames, device, where), None
        if self.section.video.missing_pixels:
            weights = self.weights(frames, device, where)
        if where is None:
            return chosen.batch(Samples(coords, values, weights))
        samples, gate = Samples(coords[to_device(where, device)], values, weights), self.config.coding.gate.kind
        return chosen.batch(samples, None if gate in _NOT_LOOKING else partial(self.values, frames, device))

    def prefetch(self, step: int, world: World) -> None:
        """Frames are decoded already."""

    def sample(self, count: int) -> Samples:
        """Frames, spread over the video."""
        chosen = np.linspace(0, len(self.signals) - 1, min(count, len(self.signals))).round().astype(int)
        return Samples(self.coords, self.values([self.signals[place] for place in chosen]))

    def prior_samples(self, count: int, world: World) -> Iterator[tuple[Samples, int]]:
        """This rank's part of training frames, from whose codes the prior is learned."""
        return grid_prior_samples(self, count, world)

    def values(
        self, frames: Sequence[int], device: torch.device = _CPU, where: Int[Tensor, "c"] | None = None
    ) -> Float[Tensor, "T c d"]:
        """Frames at their scene's light, on the grid or at some of its places, on a device.

        It keeps them where it has room.
        """
        rows = self._rows(self._frames, frames, device, where, self.video.samples, UNIT)
        if not self.section.video.light:
            return rows
        gains, offsets = self._gains_and_offsets.on(device)[:, to_device(torch.tensor(frames), device), None, None]
        return (rows - offsets) / gains

    def weights(
        self, frames: Sequence[int], device: torch.device = _CPU, where: Int[Tensor, "c"] | None = None
    ) -> Float[Tensor, "T c"]:
        """1 for the pixels that are fitted, 0 for those left out on purpose, like `values`."""
        if not self.section.video.missing_pixels:
            return torch.ones(len(frames), len(self.coords) if where is None else len(where), device=device)
        return self._rows(self._kept_pixels, frames, device, where, self._kept_of, np.float32(1))[..., 0]

    def _rows(
        self,
        residents: Residents,
        frames: Sequence[int],
        device: torch.device,
        where: Int[Tensor, "c"] | None,
        load: Callable[[int], Shaped[np.ndarray, "*C d"]],
        unit: np.float32,
    ) -> Float[Tensor, "T c d"]:
        """Multiples of a unit at places of frames, from where they are kept."""
        count, resident, arrays = len(self.coords), residents.on(device), np.array(frames)
        if resident is not None and resident.require(arrays):
            first = to_device(torch.from_numpy(resident.starts(arrays)), device)[:, None]
            places = torch.arange(count, device=device) if where is None else to_device(where, device)
            return resident.rows(first + places)
        read = [load(frame).reshape(count, -1)[... if where is None else where.numpy()] * unit for frame in frames]
        return to_device(torch.from_numpy(np.stack(read)), device)

    def kept_pixels(self, frames: Sequence[int]) -> Bool[np.ndarray, "T C"]:
        """Which pixels are fitted: all but those left out on purpose, which depend on (seed, frame) only."""
        share, count = self.section.video.missing_pixels, self.grid_shape[0] * self.grid_shape[1]
        seed = self.config.training.seed
        rows = [independent_generator(seed, _LEFT_OUT_PIXELS, frame).random(count) >= share for frame in frames]
        return np.stack(rows) if rows else np.zeros((0, count), bool)

    def _kept_of(self, frame: int) -> Float32[np.ndarray, "C 1"]:
        return self.kept_pixels([frame])[0, :, None].astype(np.float32)

    def evaluate(self, model: Model, world: World) -> dict[str, float]:
        """How far, in the middle over the pixels, f with the gate's codes is from a few frames it has been fitted to.

        What moves is not f's to fit: a median does not see it.
        """
        frames = self._shown()
        errors, own = torch.zeros(len(frames), dtype=torch.float64), slice(world.rank, None, world.size)
        if frames[own]:
            values = self.values(frames[own], model.device)
            left_over = (self._estimates(model, values, frames[own]) - values).abs()
            errors[own] = left_over.flatten(1).median(1).values.cpu().double()
        return {"train/median_error": world.all_reduce_sum(errors).mean().item()}

    def pictures(self, model: Model) -> dict[str, Picture]:
        """A frame, f with the gate's code, and what is left over, around mid grey."""
        frame = self._shown()[_FRAMES // 2 % len(self._shown())]
        shown = self.values([frame], model.device)
        values, estimate = (part[0].cpu() for part in (shown, self._estimates(model, shown, [frame])))
        parts = [part.clamp(0, 1).unflatten(0, self.grid_shape) for part in (values, estimate, 0.5 + values - estimate)]
        return {f"frame {frame}": torch.cat(parts, 1).numpy()}

    def _shown(self) -> list[int]:
        places = np.linspace(0, len(self.signals) - 1, min(_FRAMES, len(self.signals))).round().astype(int)
        return [self.signals[place] for place in places]

    @torch.no_grad()
    def _estimates(self, model: Model, values: Float[Tensor, "T C d"], frames: Sequence[int]) -> Float[Tensor, "T C d"]:
        return model.evaluate(frame_codes(model, values, frames), model.coords)


@torch.no_grad()
def frame_codes(model: Model, values: Float[Tensor, "T C d"], frames: Sequence[int]) -> Code:
    """The codes, of k coefficients, of the gate of a model trained on a video, for some of its frames."""
    output = model.gate_output(values, to_device(torch.tensor(frames), values.device))
    return signed_top_k(output.logits, output.bias, model.support)


def kept_frames(config: Config, present: Bool[np.ndarray, "T"]) -> Bool[np.ndarray, "T"]:
    """Which frames are fitted, of those that can be decoded.

    The share left out, drawn from the seed, never takes the last two.
    """
    frames = np.flatnonzero(present)
    count = min(round(config.signals_of(VideoSection).video.missing_frames * len(frames)), max(0, len(frames) - 2))
    left_out = independent_generator(config.training.seed, _LEFT_OUT_FRAMES, 0).choice(frames, count, replace=False)
    kept = present.copy()
    kept[left_out] = False
    return kept


@torch.no_grad()
def _let_first_lead(model: Model, scenes: Sequence[Sequence[int]]) -> None:
    """Start codes with the expert that is the cheapest; the order does the rest.

    Of several scenes each has experts of its own: of a codebook's code the coefficients of all others are zero, which
    are never among the largest.
    """
    gate = model.gate
    if isinstance(gate, CodebookGate) and gate.linear is not None:
        gate.linear.weight.mul_(_REST)
        gate.linear.bias[0] = _LEAD
        return
    if isinstance(gate, CodebookGate):
        gate.codes.mul_(_REST)
        for scene, frames in enumerate(scenes):
            own = torch.arange(gate.codes.shape[1]) % len(scenes) == scene
            gate.codes[torch.tensor(frames)] *= own
            gate.codes[frames, scene] = _LEAD
        return
    head = getattr(gate, "head", None)
    if isinstance(head, CodeHead):
        head.linear.weight[: head.experts].mul_(_REST)
        head.linear.bias[0] = _LEAD
