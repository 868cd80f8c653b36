"""A tiny clip with known truth, a dictionary that was trained on it, and configurations for both."""

from pathlib import Path

import pytest

from nid_dist.config import Config, load_config
from nid_dist.tasks.video.comparison import write_clip
from nid_dist.tasks.video.synthetic_clip import Clip, synthetic_clip
from nid_dist.training.run import train

SIZES = """
signals: {source: video, path: clip}
dictionary: {experts: 4, encoding: {kind: identity}, width: 64, shared_layers: 2, activation: sine,
             trunk_output: activated, init: random}
coding:
  support: 2
  prior_rank: 0
  gate: {kind: codebook}
  phases: [{mode: gate, share: 0.3, loss: l1}, {mode: gate, share: 0.7, loss: welsch}]
objective: {ordered: 0.005, balance: 0}
optimizer: {lr: 2.0e-3, trunk_lr: 2.0e-3, gate_lr: 5.0e-3, warmup_steps: 10}
parallel: {device: cpu}
training: {steps: 500, batch: 8, coordinates: 1024, eval_every: 0, checkpoint_every: 0}
logging: {tensorboard: false, progress: false, pictures_every: 0}
"""


def configured(folder: Path, *overrides: str) -> Config:
    """Of the clip in `folder/clip`."""
    path = folder / "video.yaml"
    if not path.is_file():
        path.write_text(SIZES)
    return load_config(path, [f"signals.path={folder / 'clip'}", f"logging.run_dir={folder / 'run'}", *overrides])


@pytest.fixture(scope="session")
def clip() -> Clip:
    """36 frames of 48 x 64."""
    return synthetic_clip(36, 48, 64, photograph="retina")


@pytest.fixture(scope="session")
def trained_clip(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clip and a run on it; not to be written to."""
    folder = tmp_path_factory.mktemp("video")
    write_clip(clip, folder / "clip")
    train(configured(folder))
    return folder
