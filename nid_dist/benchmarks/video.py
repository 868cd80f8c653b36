"""`video`: background and foreground of a clip with known truth against principal component pursuit, and memory."""

import tempfile
from pathlib import Path
from typing import Any

from nid_dist.benchmarks.harness import QUIET, compare
from nid_dist.comparison.factory import load_comparison
from nid_dist.config import Config, find_config, load_config
from nid_dist.evaluation.measuring import peak_bytes
from nid_dist.evaluation.report import Table
from nid_dist.export import load
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.local_processes import run_local
from nid_dist.parallel.world import JSON
from nid_dist.tasks.video.decomposition.decompose import Decomposition
from nid_dist.tasks.video.decomposition.results import decompose
from nid_dist.tasks.video.decomposition.writing import writing
from nid_dist.tasks.video.synthetic_clip import synthetic_clip
from nid_dist.tasks.video.task import VideoTask
from nid_dist.training.run import train

_SHORT = "signals.short_side=null, training.steps=5, dictionary.width=16"
_TINY = (
    "frames=12",
    "rows=48",
    "columns=64",
    f"dictionaries.0.set=[{_SHORT}, signals.video.stop=null]",
    f"dictionaries.1.set=[{_SHORT}, 'signals.video={{missing_pixels: 0.3, missing_frames: 0.1}}']",
)
_LENGTHS = (100, 400)


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Compare on the synthetic clip, then decompose videos of two lengths; a table of the comparison's.

    The figures: `background_db_minus_pcp`, `f_measure_minus_pcp` and so on, each F at the method's best threshold.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = find_config("compare_video")
        results = compare(load_comparison(path, [f"run_dir={folder}/compare", *(_TINY if quick else ())]), path)
        lengths = (10, 20) if quick else _LENGTHS
        # Each in a process of its own, whose memory nothing else has used before.
        sizes = {frames: _memory_of(folder, frames, quick) for frames in lengths}
    rows = {row["method"]: row for row in results.rows}
    nid, pcp, median = rows["NID"], rows["PCP"], rows["temporal median"]
    figures: dict[str, Any] = {
        f"{key}_minus_{name}": nid[key] - other[key]
        for key in ("background_db", "background_ssim", "f_measure", "f_measure_by_rule", "f_measure_pausing")
        for name, other in (("pcp", pcp), ("median", median))
    }
    for key in ("background_db", "f_measure", "seconds"):
        figures |= {f"{key}_{name}": row[key] for name, row in (("nid", nid), ("pcp", pcp), ("median", median))}
    missing = next(row for row in results.rows if "left_out_db" in row)
    figures |= {key: missing[key] for key in ("left_out_db", "left_out_still_db")}
    figures["background_db_nid_missing"] = missing["background_db"]
    figures |= {f"memory_mib_{frames}_frames": size / 2**20 for frames, size in sizes.items()}
    short, long = lengths
    figures[f"memory_ratio_{long}_over_{short}_frames"] = sizes[long] / sizes[short]
    return figures, results.report.table


def _memory_of(folder: str, frames: int, quick: bool) -> float:
    (size,) = run_local(_memory, 1, folder, frames, quick)
    assert isinstance(size, float)
    return size


def _memory(launch: Launch, folder: str, frames: int, quick: bool) -> JSON:
    """Peak memory of training on a video file and of taking it apart, with all its results written."""
    place = Path(folder, f"video-{frames}")
    path = place / "video.mkv"
    _write_video(path, frames)
    config = load_config(
        "video_rpca",
        [
            f"signals.path={path}",
            "signals.short_side=null",
            "signals.video.stop=null",
            "training.steps=20",
            *QUIET,
            f"logging.run_dir={place}/run",
            *(["dictionary.width=16", "training.steps=2"] if quick else []),
        ],
    )
    return peak_bytes(lambda: _all(config, place))


def _all(config: Config, place: Path) -> None:
    train(config)
    model = load(place / "run")
    (place / "out").mkdir()
    decompose(Decomposition(model, VideoTask(config)), place / "out")


def _write_video(path: Path, frames: int) -> None:
    clip = synthetic_clip(90, 72, 96)
    with writing(path, 25.0, lossless=True) as video:
        for frame in range(frames):
            video.add(clip.frames[frame % len(clip.frames)])
