"""A tiny CT dictionary, trained once for all tests."""

from pathlib import Path

import numpy as np
import pytest

from nid_dist.config import Config, load_config
from nid_dist.tasks.ct.phantoms import Phantom
from nid_dist.training.run import train

SHIPPED = Path(__file__).parents[1] / "configs" / "ct_shepp_logan.yaml"
SMALL = [
    "signals.phantoms=60",
    "signals.size=17",
    "signals.test=[shepp-logan, 'phantom-0000?']",
    "signals.val=['phantom-0001?']",
    "tomography.views=[4, 8, 16]",
    "tomography.evaluated=[4]",
    "dictionary.experts=64",
    "dictionary.width=32",
    "dictionary.encoding.features=289",
    "coding.support=16",
    "coding.blocks=2",
    "coding.gate.width=8",
    "coding.prior_rank=32",
    "coding.prior_signals=40",
    "parallel.device=cpu",
    "training.batch=8",
    "training.steps=60",
    "training.eval_every=0",
    "training.checkpoint_every=0",
    "logging.tensorboard=false",
    "logging.progress=false",
    "logging.pictures_every=0",
]


def phantom_values(phantom: Phantom, coords: np.ndarray) -> np.ndarray:
    """The sum of the densities of the ellipses that cover a point (row, column)."""
    x, y = coords[:, 1], -coords[:, 0]
    total = np.zeros(len(coords))
    for density, a, b, right, up, angle in phantom.ellipses:
        along = (x - right) * np.cos(angle) + (y - up) * np.sin(angle)
        across = (y - up) * np.cos(angle) - (x - right) * np.sin(angle)
        total += density * ((along / a) ** 2 + (across / b) ** 2 <= 1)
    return total


def tiny_ct(run: Path, *overrides: str) -> Config:
    """The shipped configuration in small sizes."""
    return load_config(SHIPPED, [*SMALL, f"logging.run_dir={run}", *overrides])


@pytest.fixture(scope="session")
def ct_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on phantoms of 17 pixels a side; not to be written to."""
    folder = tmp_path_factory.mktemp("ct") / "run"
    train(tiny_ct(folder))
    return folder
