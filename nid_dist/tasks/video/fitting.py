"""The fit of a video to the dictionary that was trained on it: background and foreground."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from nid_dist.coding.fit import Fit
from nid_dist.coding.judgement import Judgement
from nid_dist.coding.method import Method
from nid_dist.coding.solvers import Solution
from nid_dist.config.schema import Config
from nid_dist.device import Stopwatch
from nid_dist.errors import UserError
from nid_dist.files import expanded
from nid_dist.fitting import wrong_kind
from nid_dist.model import Model
from nid_dist.tasks.video.config import VideoSection
from nid_dist.tasks.video.decomposition.decompose import Decomposition, Moment
from nid_dist.tasks.video.decomposition.results import decompose
from nid_dist.tasks.video.task import VideoTask


@dataclass(frozen=True, eq=False)
class VideoFit(Fit):
    """A video taken apart by `irls` with Tukey's loss.

    Its code is the background's, one row a fitted frame, of the experts that are background; the residual is the
    variance of what is left over where nothing moves.
    """

    decomposition: Decomposition  # with a model of its own, whose heads have been fitted anew

    @property
    def judgement(self) -> Judgement:
        """The noise of the background, and whether it is the dictionary that shows it or still detail."""
        picture, details = self.render(), [scene.detail for scene in self.decomposition.scenes]
        share = max(float(detail.var() / max(picture.var(), 1e-12)) for detail in details)
        remarks = (f"still detail carries {min(share, 1.0):.0%} of the background's contrast",) if share > 0.5 else ()
        return Judgement(self.decomposition.background.noise, remarks=remarks)

    @property
    def background(self) -> Float32[np.ndarray, "T H W d"]:
        """Of every frame, in memory; `moments` gives one after the other."""
        return np.stack([moment.background for moment in self.moments()]).clip(0, 1)

    @property
    def foreground(self) -> Bool[np.ndarray, "T H W"]:
        """Where something passes, in every frame."""
        return np.stack([moment.foreground for moment in self.moments()])

    def moments(self, rate: float | None = None, size: tuple[int, int] | None = None) -> Iterator[Moment]:
        """Background, transients and foreground, one moment after the other.

        `rate` is moments per second; None, with `size`: the video's own frames. `size` is rows and columns; None: as
        trained.
        """
        grid = self.decomposition.model.grid_shape
        if rate is None and size is None:
            return self.decomposition.at_frames()
        return self.decomposition.at(rate or self.decomposition.task.video.rate, size or (grid[0], grid[1]))

    def render(
        self, time: float | None = None, height: int | None = None, width: int | None = None
    ) -> Float32[np.ndarray, "H W d"]:
        """The background at any time and resolution, clipped to [0, 1].

        `time` is in seconds, as the video counts; None: the first frame's. `height` and `width`, None: as trained.
        """
        found = self.decomposition
        rows, columns = found.model.grid_shape
        when = float(found.task.video.times[0]) if time is None else time
        picture: np.ndarray = found.render(when, found.atoms((height or rows, width or columns))).clip(0, 1)
        return picture

    def write(self, folder: str | Path, **options: Any) -> dict[str, Any]:
        """Write what `decompose` writes, whose options these are; `files` are its names."""
        return {"files": decompose(self.decomposition, expanded(folder), **options)}


def fit(
    model: Model, signals: Sequence[Any], methods: Sequence[str | Method] | None, *, rounds: int | None = None
) -> Iterator[dict[str, VideoFit]]:
    """Take the video apart that a dictionary was trained on: the fit, by the method's label.

    Args:
        model: of a video, which stays as it is.
        signals: the video's path, its frames [N, H, W, d], or None: where it was trained from.
        methods: None or `irls`, the one there is: robust fits of codes and heads in turn.
        rounds: of the robust fit; None: as many as usual.

    Raises:
        UserError: for anything else than that video, another method, or a dictionary of other signals.
    """
    model.config.signals_of(VideoSection)
    method = Method("irls", loss="tukey")
    for asked in methods or []:
        if Method.of(asked).name != "irls":
            found = repr(Method.of(asked).label)
            raise UserError("the method", found=found, expected="irls, for a video", hint="leave it out")
    for signal in signals:
        task = _task(model.config, signal)
        _require_same(
            model, task, "the video" if isinstance(signal, np.ndarray | torch.Tensor) else str(task.video.path)
        )
        watch = Stopwatch(model.device)
        decomposition = Decomposition(copy.deepcopy(model), task, rounds)
        background = decomposition.background
        variance = torch.full((background.code.signals,), background.noise**2)
        solution = Solution(background.code, variance, seconds=watch.seconds())
        yield {method.label: VideoFit(method, solution, decomposition)}


def _task(config: Config, signal: Any) -> VideoTask:
    if signal is None:
        return VideoTask(config)
    if isinstance(signal, str | Path):
        signals = config.signals_of(VideoSection).model_copy(update={"path": str(expanded(signal))})
        return VideoTask(config.model_copy(update={"signals": signals}))
    if isinstance(signal, torch.Tensor):
        signal = signal.detach().cpu().numpy()
    if not isinstance(signal, np.ndarray) or signal.ndim != 4:
        raise wrong_kind(signal, "a video or its frames [N, H, W, d], as this dictionary is of a video")
    return VideoTask(config, signal)


def _require_same(model: Model, task: VideoTask, name: str) -> None:
    frames, grid = model.signals, model.grid_shape
    if (frames, grid) != (len(task.video), task.grid_shape):
        raise UserError(
            name,
            found=f"{len(task.video)} frames of {task.grid_shape[0]}x{task.grid_shape[1]}",
            expected=f"{frames} of {grid[0]}x{grid[1]}, those that the dictionary was trained on",
            hint="name the video it was trained on, or train on this one",
        )
