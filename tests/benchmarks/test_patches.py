"""Patches beside DCT and PCA: which lines there are, and that their figures are those of the pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from nid_dist.benchmarks.simple import patches
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.tasks.images.preparation import prepare
from nid_dist.tasks.images.task import ImageTask
from nid_dist.tasks.images.transforms import fixed_transforms
from tests.tiny import tiny


def by_hand(image: np.ndarray, k: int, colours: np.ndarray) -> np.ndarray:
    """The best k cosines of every 8 x 8 patch, besides its mean colour, clipped."""
    result = np.zeros_like(image, dtype=np.float64)
    for row in range(0, image.shape[0], 8):
        for column in range(0, image.shape[1], 8):
            cut = np.s_[row : row + 8, column : column + 8]
            waves = dctn(image[cut].astype(np.float64) @ colours.T, norm="ortho", axes=(0, 1))
            magnitudes = np.abs(waves)
            magnitudes[0, 0] = np.inf
            waves[magnitudes < np.sort(magnitudes, axis=None)[-(k + 3)]] = 0
            result[cut] = idctn(waves, norm="ortho", axes=(0, 1)) @ colours
    return np.clip(result, 0, 1)


def test_lines_of_a_training(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "_SIDE", 16)
    config = tiny(images, tmp_path / "run", "coding.gate={kind: pursuit}", "coding.phases=[{mode: solve}]")
    lines = list(patches.compared("photos", 128, config))
    kinds = [f"{ours}_minus_{simple}" for ours in ("gate", "steps", "omp") for simple in ("dct", "pca")]
    assert [line.key for line in lines] == [f"db_photos_{kind}_128" for kind in kinds]
    assert all(line.seconds and line.simple_seconds for line in lines)
    task = ImageTask(config)
    (ref,) = task.refs["test"]
    image = prepare(ref.load(), size=16, name=ref.name)
    colours = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]])
    jpeg = psnr(by_hand(image, 12, colours / np.linalg.norm(colours, axis=1, keepdims=True)).astype(np.float32), image)
    transforms = fixed_transforms(task)
    assert psnr(transforms["dct_best"](image, 12), image) == pytest.approx(jpeg, abs=1e-4)


def test_cosines_in_the_colours_of_the_data(images: Path, tmp_path: Path) -> None:
    task = ImageTask(tiny(images, tmp_path / "run"))
    values = task.sample(len(task.signals)).values
    centred = (values - values.mean(1, keepdim=True)).flatten(0, 1).double().numpy()
    colours = np.linalg.svd(centred, full_matrices=False)[2]
    (ref,) = task.refs["test"]
    image = prepare(ref.load(), size=16, name=ref.name)
    found = fixed_transforms(task)["dct_own"](image, 5)
    np.testing.assert_allclose(found, by_hand(image, 5, colours), atol=1e-5)
    assert torch.from_numpy(found).dtype == torch.float32
