"""Video decomposition: the dictionary, principal component pursuit and the temporal median.

First on a clip whose background and foreground are known, then on real videos, where there is only to be seen.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32
from pydantic import Field

from nid_dist.checkpoints.run_folder import RunFolder
from nid_dist.comparison.base import Comparison, Request, Results, Trained
from nid_dist.comparison.dictionaries import folder_of, trained
from nid_dist.config.schema import Config
from nid_dist.config.section import PositiveInt
from nid_dist.evaluation.grids import picture_grid
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.report import Cell, Column, Table
from nid_dist.files import replacing, write_json
from nid_dist.tasks.video.decomposition.decompose import Decomposition
from nid_dist.tasks.video.decomposition.foreground import foreground_mask
from nid_dist.tasks.video.decomposition.held_out import HeldOutPSNR
from nid_dist.tasks.video.separations import Frames, Separation, by_median, by_pursuit, costs_of, figures
from nid_dist.tasks.video.synthetic_clip import Clip, synthetic_clip
from nid_dist.tasks.video.task import VideoTask

_COLUMNS = [
    Column("video"),
    Column("method"),
    Column("background", "dB", ".2f"),
    Column("SSIM", "", ".4f"),
    Column("F, best threshold", "", ".4f"),
    Column("F", "", ".4f"),
    Column("precision", "", ".4f"),
    Column("recall", "", ".4f"),
    Column("F, pausing", "", ".4f"),
    Column("left out", "dB", ".2f"),
    Column("left out, still", "dB", ".2f"),
    Column("time", "s", ".1f"),
    Column("memory", "MiB", ".0f"),
    Column("model", "KiB", ".0f"),
    Column("of the raw video", "", ".3f"),
]
_SHOWN = 3  # frames of a picture


class VideoDictionary(Trained):
    """A dictionary that is trained on each video."""

    clip_only: bool = Field(False, description="not on --input videos")


class VideoComparison(Comparison):
    """Background and foreground of a clip and of videos."""

    task: Literal["video"] = "video"
    run_dir: str = "runs/compare_video"
    dictionaries: list[VideoDictionary] = Field(min_length=1)
    frames: PositiveInt = Field(90, description="of the synthetic clip")
    rows: PositiveInt = Field(108, description="of the synthetic clip")
    columns: PositiveInt = Field(144, description="of the synthetic clip")
    photograph: str = Field("chelsea", description="behind it, one that scikit-image ships")
    seed: int = Field(0, description="of the synthetic clip")
    videos: list[str] = Field([], description="overrides for --input videos, section.key=value")


def compare_videos(config: VideoComparison, request: Request) -> Results:
    """Make the table and the pictures.

    Args:
        config: the comparison.
        request: whose videos (none: the synthetic clip alone), and where pictures go.

    Returns:
        The results.

    Raises:
        UserError: when something cannot be read or trained.
    """
    clip = synthetic_clip(config.frames, config.rows, config.columns, photograph=config.photograph, seed=config.seed)
    folder = write_clip(clip, Path(config.run_dir) / "clip")
    rows, files, seen = [], {}, []
    work: list[tuple[str, Path, Clip | None, list[str]]] = [("synthetic", folder, clip, [])]
    work += [(path.stem, path, None, config.videos) for path in request.inputs or []]
    for name, path, truth, overrides in work:
        frames, found = _separate(config, request, name, path, overrides, truth is not None)
        rows += [figures(name, frames, each, truth) for each in found]
        picture = f"{name}.png"
        _draw(request.out / picture, name, frames, found, truth)
        files[picture] = "backgrounds and masks of all methods"
        seen.append({"video": name, "frames": len(frames), "rows": frames.shape[1], "columns": frames.shape[2]})
    return Results(_table(rows), rows, {"videos": seen}, files)


def write_clip(clip: Clip, folder: Path) -> Path:
    """Keep a clip's frames as a folder, one exact array each.

    Args:
        clip: what to keep.
        folder: made where it is missing.

    Returns:
        The folder.

    Raises:
        UserError: when it cannot be written.
    """
    for place, frame in enumerate(clip.frames):
        with replacing(folder / f"{place:04d}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, frame)
    return folder


def _separate(
    config: VideoComparison, request: Request, name: str, path: Path, overrides: list[str], known: bool
) -> tuple[Frames, list[Separation]]:
    found, frames = [], np.zeros((0, 0, 0, 0), np.float32)
    for dictionary in config.dictionaries:
        if dictionary.clip_only and not known:
            continue
        words = [*dictionary.set, f"signals.path={path.absolute()}", *overrides]
        named = Trained(name=f"{dictionary.name} {name}", config=dictionary.config, set=words)
        separation, task = _by_dictionary(config, dictionary.name, named, request)
        frames = task.video.read(range(len(task.video)))
        found.append(separation)
    return frames, [*found, by_pursuit(frames), by_median(frames)]


def _by_dictionary(
    config: VideoComparison, name: str, named: Trained, request: Request
) -> tuple[Separation, VideoTask]:
    """Trained and decomposed, with the costs of both; of a training that is found again, those that it once had."""
    folder = folder_of(named, config.run_dir)
    spent = folder.with_name(f"{folder.name}.json")
    kept: dict[str, Any] = {}

    def train_it() -> None:
        model, made = trained(named, request, config.run_dir)
        kept.update(model=model, made=made)

    memory = costs_of(train_it)["memory"]
    if spent.is_file():
        memory = json.loads(spent.read_text())["memory_bytes"]
    else:
        write_json(spent, {"memory_bytes": memory})
    made: Config = kept["made"]
    task = VideoTask(made)

    def take_apart() -> None:
        kept["decomposition"] = Decomposition(kept["model"], task)

    more = costs_of(take_apart)
    found: Decomposition = kept["decomposition"]
    pictures, left_out = [], HeldOutPSNR(found)
    for place, moment in enumerate(found.at_frames()):
        pictures.append(moment.background.clip(0, 1))
        left_out.add(place, moment)
    return Separation(
        name,
        np.stack(pictures),
        found.background.noise,
        _training_seconds(folder) + more["seconds"],
        max(memory, more["memory"]),
        found.bytes,
        left_out.figures(),
    ), task


def _training_seconds(run: Path) -> float:
    """What a run's last checkpoint says, however many processes it had."""
    lines = [json.loads(line) for line in RunFolder(run).log.read_text().splitlines()]
    return float([line["seconds"] for line in lines if line["event"] == "checkpoint"][-1])


def _table(rows: list[dict[str, Any]]) -> Table:
    keys = ["video", "method", "background_db", "background_ssim", "f_measure", "f_measure_by_rule", "precision"]
    keys += ["recall", "f_measure_pausing", "left_out_db", "left_out_still_db", "seconds"]

    def cells(row: dict[str, Any]) -> Iterator[Cell]:
        yield from (row.get(key) for key in keys)
        yield row["memory_bytes"] / 2**20
        yield row["bytes"] / 2**10
        yield row["bytes_relative"]

    return Table(_COLUMNS, [list(cells(row)) for row in rows])


def _draw(path: Path, name: str, frames: Frames, found: list[Separation], truth: Clip | None) -> None:
    rows: dict[str, dict[str, tuple[Float32[np.ndarray, "H W d"], str]]] = {}
    for index in np.linspace(0.1 * len(frames), 0.9 * (len(frames) - 1), _SHOWN).round().astype(int).tolist():
        row = {"video": (frames[index], "")}
        if truth is not None:
            row["truth"] = (_as_picture(truth.foreground[index]), "")
        for each in found:
            behind = each.background[index]
            caption = f"{psnr(behind, truth.background[index]):.2f} dB" if truth is not None else ""
            row[f"{each.method}, background"] = (behind, caption)
            row[f"{each.method}, mask"] = (_as_picture(foreground_mask(frames[index] - behind, each.noise)), "")
        rows[f"frame {index}"] = row
    picture_grid(path, rows, title=name)


def _as_picture(mask: Bool[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W 3"]:
    return np.repeat(mask[..., None], 3, axis=2).astype(np.float32)
