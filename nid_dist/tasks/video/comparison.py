"""Video decomposition: the dictionary, principal component pursuit and temporal medians.

First on a clip whose background and foreground are known, then on real videos, where there is only to be seen.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32
from pydantic import Field

from nid_dist.checkpoints.run_folder import RunFolder
from nid_dist.config import load_config
from nid_dist.config.section import NonNegativeFloat, PathText, PositiveInt
from nid_dist.device import resolve_device
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.report import Column, Row, Table
from nid_dist.files import replacing, write_json
from nid_dist.tasks.comparison import (
    Cells,
    ComparedMethod,
    Comparison,
    Grid,
    Outcome,
    Reconstruction,
    Report,
    Request,
    Specification,
    Subject,
    Trained,
    Trial,
)
from nid_dist.tasks.video.decomposition.decompose import Decomposition
from nid_dist.tasks.video.decomposition.held_out import HeldOutPSNR
from nid_dist.tasks.video.separations import (
    Frames,
    Separation,
    by_median,
    by_median_times_gain,
    by_pursuit,
    costs_of,
    figures,
)
from nid_dist.tasks.video.synthetic_clip import Clip, synthetic_clip
from nid_dist.tasks.video.task import VideoTask

_COLUMNS = [
    Column("video", key="video"),
    Column("method", key="method"),
    Column("background", "dB", ".2f", "background_db"),
    Column("SSIM", "", ".4f", "background_ssim"),
    Column("F, best threshold", "", ".4f", "f_measure"),
    Column("F", "", ".4f", "f_measure_by_rule"),
    Column("precision", "", ".4f", "precision"),
    Column("recall", "", ".4f", "recall"),
    Column("F, pausing", "", ".4f", "f_measure_pausing"),
    Column("recall, pausing", "", ".4f", "recall_pausing"),
    Column("left out", "dB", ".2f", "left_out_db"),
    Column("left out, still", "dB", ".2f", "left_out_still_db"),
    Column("time", "s", ".1f", "seconds"),
    Column("memory", "MiB", ".0f", "memory_bytes", 2**-20),
    Column("model", "KiB", ".0f", "bytes", 2**-10),
    Column("of the raw video", "", ".3f", "bytes_relative"),
]
_SHOWN = 3  # frames of a picture


class VideoDictionary(Trained):
    """A dictionary that is trained on each video."""

    clip_only: bool = Field(False, description="not on one's own videos")


class VideoComparison(Comparison):
    """Background and foreground of a clip and of videos."""

    task: Literal["video"] = "video"
    run_dir: PathText = "runs/compare_video"
    dictionaries: list[VideoDictionary] = Field(min_length=1)
    frames: PositiveInt = Field(90, description="of the synthetic clip")
    rows: PositiveInt = Field(108, description="of the synthetic clip")
    columns: PositiveInt = Field(144, description="of the synthetic clip")
    photograph: str = Field("chelsea", description="behind it, one that scikit-image ships")
    flicker: NonNegativeFloat = Field(0.05, description="of its light, relative")
    drift: NonNegativeFloat = Field(0.0, description="of its light, relative: how much brighter its end is")
    texture: NonNegativeFloat = Field(0.0, description="standard deviation of its background's grain")
    seed: int = Field(0, description="of the synthetic clip")
    videos: list[str] = Field([], description="overrides for one's own videos, section.key=value")

    def specify(self, request: Request) -> Specification:
        """Say what is compared."""
        clip = synthetic_clip(
            self.frames,
            self.rows,
            self.columns,
            flicker=self.flicker,
            drift=self.drift,
            texture=self.texture,
            photograph=self.photograph,
            seed=self.seed,
        )
        folder = write_clip(clip, Path(self.run_dir) / "clip")
        trials = [self._trial(request, "synthetic", folder, clip)]
        trials += [self._trial(request, path.stem, path, None) for path in request.inputs or []]
        return Specification(trials, figures, _first, _show, _report)

    def _trial(self, request: Request, name: str, path: Path, truth: Clip | None) -> Trial:
        own = [] if truth is not None else self.videos
        named = {
            each.name: Trained(
                name=f"{each.name} {name}", config=each.config, set=[*each.set, f"signals.path={path.absolute()}", *own]
            )
            for each in self.dictionaries
            if truth is not None or not each.clip_only
        }

        def load() -> tuple[Frames, Clip | None]:
            last = list(named.values())[-1]
            video = VideoTask(load_config(request.beside(last.config), last.set)).video
            return video.read(range(len(video))), truth

        subject = Subject(name, {"video": name}, load, Grid(name, name, "backgrounds and masks of all methods"))
        methods = [ComparedMethod(key, partial(_by_dictionary, request, each)) for key, each in named.items()]
        methods += [
            ComparedMethod("PCP", by_pursuit),
            ComparedMethod("temporal median", by_median),
            ComparedMethod("median times gain", by_median_times_gain),
        ]
        return Trial([subject], lambda: methods)


def write_clip(clip: Clip, folder: Path) -> Path:
    """Keep a clip's frames as a folder, which is made where it is missing, one exact array each.

    Raises:
        UserError: when it cannot be written.
    """
    for place, frame in enumerate(clip.frames):
        with replacing(folder / f"{place:04d}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, frame)
    return folder


def _by_dictionary(request: Request, named: Trained, _: Frames, __: float | None) -> Reconstruction:
    """Trained and decomposed, with the costs of both; of a training that is found again, those that it once had."""
    folder = request.folder(named)
    spent = folder.with_name(f"{folder.name}.json")
    (model, made), training = costs_of(lambda: request.dictionary(named), resolve_device("auto"))
    memory = training["memory_bytes"]
    if spent.is_file():
        memory = json.loads(spent.read_text())["memory_bytes"]
    else:
        write_json(spent, {"memory_bytes": memory})
    found, more = costs_of(lambda: Decomposition(model, VideoTask(made)), model.device)

    def separation() -> Separation:
        pictures, left_out = [], HeldOutPSNR(found)
        for place, moment in enumerate(found.at_frames()):
            pictures.append(moment.background.clip(0, 1))
            left_out.add(place, moment)
        return Separation(np.stack(pictures), found.background.noise, found.bytes, left_out.figures(), found.noise_at)

    seconds = _training_seconds(folder) + more["seconds"]
    return Reconstruction(separation, {"seconds": seconds, "memory_bytes": max(memory, more["memory_bytes"])})


def _training_seconds(run: Path) -> float:
    """What a run's last checkpoint says, however many processes it had."""
    lines = [json.loads(line) for line in RunFolder(run).log.read_text().splitlines()]
    return float([line["seconds"] for line in lines if line["event"] == "checkpoint"][-1])


def _report(outcomes: Sequence[Outcome]) -> Report:
    rows = [outcome.row for outcome in outcomes]
    sizes = {row["video"]: {key: row[key] for key in ("video", "frames", "rows", "columns")} for row in rows}
    return Report(Table.of(_COLUMNS, rows), {"videos": list(sizes.values())})


def _places(frames: Frames) -> list[int]:
    """The frames that are shown."""
    places: list[int] = np.linspace(0.1 * len(frames), 0.9 * (len(frames) - 1), _SHOWN).round().astype(int).tolist()
    return places


def _first(_: Subject, frames: Frames, truth: Clip | None) -> Cells:
    cells: Cells = {f"frame {place}": {"video": (frames[place], "")} for place in _places(frames)}
    if truth is not None:
        for place in _places(frames):
            cells[f"frame {place}"]["truth"] = (_as_picture(truth.foreground[place]), "")
    return cells


def _show(_: Subject, found: Separation, frames: Frames, truth: Clip | None, row: Row) -> Cells:
    cells: Cells = {}
    for place in _places(frames):
        behind = found.background[place]
        caption = f"{psnr(behind, truth.background[place]):.2f} dB" if truth is not None else ""
        mask = _as_picture(found.mask(place, frames[place]))
        cells[f"frame {place}"] = {
            f"{row['method']}, background": (behind, caption),
            f"{row['method']}, mask": (mask, ""),
        }
    return cells


def _as_picture(mask: Bool[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W 3"]:
    return np.repeat(mask[..., None], 3, axis=2).astype(np.float32)
