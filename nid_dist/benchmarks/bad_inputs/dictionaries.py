"""A tiny dictionary of each task, trained in seconds: commands that read inputs want one."""

import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from nid_dist.benchmarks.bad_inputs.encoding import photograph, png
from nid_dist.benchmarks.bad_inputs.reader import command
from nid_dist.benchmarks.harness import QUIET
from nid_dist.config import load_config
from nid_dist.tasks.video.comparison import write_clip
from nid_dist.tasks.video.synthetic_clip import synthetic_clip
from nid_dist.training.run import train

_SMALL = ("dictionary.experts=32", "dictionary.width=16", "parallel.device=cpu", "training.steps=20", *QUIET)
TASKS = {
    "images": (
        "quickstart",
        "signals.limit=2",
        "signals.short_side=64",
        "dictionary.encoding.features=63",
        "coding={support: 8, prior_rank: 16, prior_signals: 200, gate: {kind: none}, phases: [{mode: solve}]}",
        "training.batch=32",
        "training.checkpoint_every=10",
    ),
    "ct": (
        "ct_shepp_logan",
        "signals.phantoms=24",
        "signals.size=17",
        "tomography.views=[8, 16]",
        "tomography.evaluated=[8]",
        "dictionary.encoding.features=289",
        "coding={support: 16, prior_rank: 16, prior_signals: 20, gate: {kind: none}, phases: [{mode: solve}]}",
        "training.batch=8",
    ),
    "shapes": (
        "sdf_shapenet",
        "signals={source: shapes, path: null, shapes: 12, families: [chair], augment: false, lattice: 8, cloud: 64}",
        "dictionary.encoding.features=48",
        "dictionary.experts=96",
        "dictionary.width=48",
        "coding={support: 32, prior_rank: 16, prior_signals: 12, gate: {kind: none}, phases: [{mode: solve}]}",
        "training.batch=8",
        "training.coordinates=400",
    ),
    "audio": (
        "audio",
        "signals.sounds=12",
        "signals.rate=8000",
        "signals.window=32",
        "signals.stride=16",
        "dictionary.encoding.features=31",
        "coding={support: 6, prior_rank: 8, prior_signals: 64, gate: {kind: none}, phases: [{mode: solve}]}",
        "training.batch=32",
    ),
    "video": ("video_rpca", "signals.short_side=null", "signals.video.stop=null", "dictionary.experts=4"),
}
"""Of each task, a configuration that is shipped, and what is set in it."""
FRAMES = 8
"""Of the clip that the dictionary of a video is trained on, in the folder `clip` beside it."""


def train_tiny(task: str, folder: Path) -> None:
    """Train the dictionary of a task: a run in the folder of its name."""
    name, *own = TASKS[task]
    if task == "video":
        write_clip(synthetic_clip(FRAMES, 32, 48), folder / "clip")
        own.append(f"signals.path={folder / 'clip'}")
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        train(load_config(name, [*_SMALL, *own, f"logging.run_dir={folder / task}"]))


def write_products(folder: Path) -> None:
    """Of the dictionary of images: `export`, and `fits` with codes of a picture, in full and compact."""
    (folder / "a.png").write_bytes(png(photograph()))
    dictionary = ["--dictionary", str(folder / "images"), "--device", "cpu"]
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere), redirect_stdout(nowhere):
        command("nid-export")([*dictionary, "--out", str(folder / "export")])
        for store in ("full", "compact"):
            given = ["--input", str(folder / "a.png"), "--out", str(folder / "fits" / store)]
            command("nid-fit")([*dictionary, *given, "--solver", "omp", "--store", store])
