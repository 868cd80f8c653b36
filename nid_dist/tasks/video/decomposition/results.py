"""Everything that a decomposition leaves in a folder."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from nid_dist.export import export
from nid_dist.files import replacing, write_json
from nid_dist.progress import track
from nid_dist.tasks.video.decomposition.components import ACTIVE, PRESENT
from nid_dist.tasks.video.decomposition.decompose import Decomposition
from nid_dist.tasks.video.decomposition.foreground import THRESHOLD
from nid_dist.tasks.video.decomposition.held_out import HeldOutPSNR
from nid_dist.tasks.video.decomposition.pictures import component_sheet, overview, panels
from nid_dist.tasks.video.decomposition.writing import video_name, writing

_SHOWN = 4  # moments of the picture


def decompose(
    found: Decomposition,
    out: Path,
    *,
    rate: float | None = None,
    size: tuple[int, int] | None = None,
    lossless: bool = False,
) -> list[str]:
    """Write videos, pictures, codes, figures and the background's dictionary.

    Args:
        out: an existing folder.
        rate: moments per second; None: the video's own frames.
        size: rows and columns; None: as trained.
        lossless: whether every pixel of the videos is kept as it is.

    Returns:
        The names of what was written, what to look at first in front.

    Raises:
        UserError: when something cannot be written.
    """
    video, grid = found.task.video, (found.model.grid_shape[0], found.model.grid_shape[1])
    own = rate is None and size is None
    shown_rate = video.rate if rate is None else rate
    moments = found.at_frames() if own else found.at(shown_rate, grid if size is None else size)
    duration = float(video.times[-1] - video.times[0])
    total = len(video) if own else int(np.floor(duration * shown_rate + 1e-6)) + 1
    kept = set(np.linspace(0.1 * total, 0.9 * (total - 1), _SHOWN).round().astype(int).tolist())
    left_out, chosen = HeldOutPSNR(found), []
    names = [video_name(name, lossless) for name in ("side_by_side", "background", "transients", "foreground")]
    with ExitStack() as opened:
        both, *parts = (opened.enter_context(writing(out / name, shown_rate, lossless=lossless)) for name in names)
        for place, moment in enumerate(track(moments, "writing", "frames", total)):
            pictures = list(panels(moment).values())
            time = moment.time - float(video.times[0])
            both.add(np.concatenate(pictures, 1), time)
            for writer, picture in zip(parts, pictures[1:], strict=True):
                writer.add(picture, time)
            if own:
                left_out.add(place, moment)
            if place in kept:
                chosen.append(moment)
    overview(out / "overview.png", chosen)
    component_sheet(out / "components.png", found)
    _write_codes(out / "codes.safetensors", found)
    export(found.model, out / "dictionary")
    write_json(out / "decomposition.json", {**_figures(found), **left_out.figures(), "frames_per_second": shown_rate})
    return [
        names[0],
        "overview.png",
        "components.png",
        *names[1:],
        "codes.safetensors",
        "decomposition.json",
        "dictionary/",
    ]


def _write_codes(path: Path, found: Decomposition) -> None:
    """The background's codes by frame and its still detail, and every component's activation as trained."""
    code, details = found.background.code, np.stack([scene.detail for scene in found.scenes])
    places = np.flatnonzero(details.any(-1))
    fitted, numbers = found.task.signals, np.zeros(len(found.task.video), np.int32)
    for number, scene in enumerate(found.scenes):
        numbers[scene.frames] = number
    arrays = {
        "times": found.times,
        "scenes": numbers[fitted],
        "experts": np.array(found.background.experts),
        "coefficients": code.values.cpu().numpy(),
        "biases": code.bias.cpu().numpy(),
        "gains": found.task.light.gains[fitted],  # of the detail; coefficients and biases know them
        "offsets": found.task.light.offsets[fitted],  # that biases know
        "detail_pixels": places.astype(np.int32),  # (scene * rows + row) * columns + column
        "detail_values": details.reshape(-1, details.shape[-1])[places].astype(np.float16),
        "activations": found.active.cpu().numpy(),
    }
    with replacing(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)


def _figures(found: Decomposition) -> dict[str, Any]:
    video = found.task.video
    return {
        "video": str(video.path.name),
        "frames": len(video),
        "frames_fitted": len(found.task.signals),
        "rows": found.model.grid_shape[0],
        "columns": found.model.grid_shape[1],
        "background_components": [expert + 1 for expert in found.background.experts],
        "rule": f"components that change pixels by {ACTIVE:.4f} or more in {PRESENT:.0%} of the frames",
        "shots": [
            {"first": shot.frames.start, "last": shot.frames.stop - 1, "scene": shot.scene + 1}
            for shot in found.task.shots
        ],
        "pixels_with_still_detail": sum(int(scene.detail.any(2).sum()) for scene in found.scenes),
        "noise": found.background.noise,
        "foreground_beyond": THRESHOLD * found.background.noise,
        "bytes_of_background": found.bytes,
        "bytes_of_video_raw": video.bytes,
    }
