"""Sounds of a few hundred samples, and a dictionary of them that is trained in seconds."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from nid_dist.config import Config, load_config
from nid_dist.training.run import train

SIZES = """
signals: {source: audio, path: null, rate: 8000, window: 32, stride: 16, sounds: 12, seconds: 0.1, val: [chirp-00001],
          test: [vowel-00002, pluck-00003]}
dictionary: {experts: 64, width: 32, encoding: {kind: cosine, features: 31}}
coding: {support: 6, blocks: 2, gate: {kind: unrolled, iterations: 3}, prior_rank: 8, prior_signals: 64}
parallel: {device: cpu}
optimizer: {warmup_steps: 0}
training: {steps: 30, batch: 32, eval_every: 0, checkpoint_every: 0}
logging: {log_every: 10, tensorboard: false, progress: false, pictures_every: 0}
"""


def configured(folder: Path, *overrides: str) -> Config:
    """A configuration of small sizes; the run goes into the folder."""
    path = folder / "audio.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SIZES)
    return load_config(path, [f"logging.run_dir={folder / 'run'}", *overrides])


def tones(length: int = 500, channels: int = 1, rate: int = 8000) -> np.ndarray:
    """A few sines, [N, d] in [-1, 1]; the second channel is another one."""
    time = np.arange(length)[:, None] / rate
    pitch = np.array([[440.0, 610.0]])[:, :channels]
    return 0.5 * np.sin(2 * np.pi * pitch * time) + 0.2 * np.sin(4 * np.pi * pitch * time + 1)


def write(path: Path, wave: np.ndarray, rate: int = 8000, subtype: str = "PCM_16") -> Path:
    """A sound file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype=subtype)
    return path


@pytest.fixture(scope="session")
def audio_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on made sounds; not to be written to."""
    folder = tmp_path_factory.mktemp("audio")
    train(configured(folder))
    return folder / "run"
