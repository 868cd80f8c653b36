"""Pictures of a few pixels, and configurations that train on them in well under a second."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nid_dist.config import Config, load_config
from nid_dist.tasks.images import report as image_report
from nid_dist.training.run import train

NAMES = ("a.png", "b.png", "c.png", "d.png", "e.png")
SIZES = """
signals: {source: folder, patch: 8, stride: 4, val: [d.png], test: [e.png]}
dictionary: {experts: 32, width: 16, encoding: {kind: fourier, features: 8, scale: 4}}
coding: {support: 4, blocks: 2, gate: {kind: light, width: 8}, prior_signals: 24}
optimizer: {warmup_steps: 0}
parallel: {device: cpu}
training: {steps: 10, batch: 16, eval_every: 0, checkpoint_every: 0}
logging: {log_every: 1, tensorboard: false, progress: false, pictures_every: 0}
"""


def picture(seed: int, height: int = 24, width: int = 32, channels: int = 3) -> np.ndarray:
    """A smooth pattern with an edge, in 0..255; no two seeds alike."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / 8.0
    values = np.zeros((height, width, channels))
    for _ in range(4):
        wave = generator.normal(size=2) @ np.stack([rows, columns]).reshape(2, -1)
        values += np.cos(wave.reshape(height, width, 1) + generator.uniform(0, 6, channels)) * generator.uniform(10, 30)
    values += 40.0 * (columns > generator.uniform(0, width / 8))[..., None]
    return np.clip(128 + values, 0, 255).astype(np.uint8)


def write_pictures(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    """One picture per name, as PNG."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed)).save(folder / name)
    return folder


def write_sizes(folder: Path, name: str = "tiny.yaml") -> Path:
    """The small sizes as a configuration file; a hidden one is not said to be skipped where the folder is listed."""
    path = folder / name
    path.write_text(SIZES)
    return path


def tiny(images: Path, run: Path, *overrides: str) -> Config:
    """A configuration of small sizes on a folder of pictures."""
    given = [f"signals.path={images}", f"logging.run_dir={run}", *overrides]
    return load_config(write_sizes(images, ".tiny.yaml"), given)


@pytest.fixture
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than all the rest of a fit."""
    monkeypatch.setattr(image_report, "comparison", lambda path, *_, **__: path.touch())


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five pictures; not to be written to."""
    return write_pictures(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of 60 steps with an unrolled gate and three checkpoints; not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(
        tiny(
            images,
            folder,
            "coding.gate={kind: unrolled, iterations: 3}",
            "training.steps=60",
            "training.checkpoint_every=20",
            "optimizer.gate_lr=2e-3",
        )
    )
    return folder
