"""What a training shows of itself: figures by independent formulas, pictures by their pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nid_dist.model import Model
from nid_dist.parallel.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.tasks.images import ImageTask
from nid_dist.training import evaluation
from nid_dist.training.evaluation import atoms_rank, evaluate, methods_of, pictures, split_to_evaluate
from tests.tiny import tiny, write_pictures


ALONE = World(Topology(32))


def made(images: Path, *overrides: str) -> tuple[Model, ImageTask]:
    task = ImageTask(tiny(images, images / "never", *overrides))
    return task.model().eval(), task


def effective_rank_by_svd(rows: np.ndarray) -> float:
    singular = np.linalg.svd(rows, compute_uv=False)
    share = singular / singular.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("light", ["init", "ridge", "omp2"]), ("codebook", ["omp2"]), ("none", ["omp2"])],
)
def test_methods_are_those_that_the_gate_allows(images: Path, kind: str, labels: list[str]) -> None:
    model, task = made(images, f"coding.gate.kind={kind}", "coding.phases=[{mode: solve}]")
    assert [method.label for method in methods_of(model, 2)] == labels
    assert list(evaluate(model, task, ALONE)) == [f"val/db_{label}" for label in labels]


def test_never_on_the_test_images(images: Path) -> None:
    assert split_to_evaluate(made(images)[1]) == "val"
    model, task = made(images, "signals.val=0.0")
    assert split_to_evaluate(task) == "train"
    assert all(name.startswith("train/") for name in evaluate(model, task, ALONE))


@pytest.mark.parametrize("experts", [5, 32])
def test_rank_of_centred_atoms(images: Path, experts: int) -> None:
    model, _ = made(images, f"dictionary.experts={experts}")
    atoms = model.dictionary.atoms(model.coords).detach().double()
    centred = (atoms - atoms.mean(1, keepdim=True)).flatten(1).numpy()
    assert atoms_rank(model) == pytest.approx(effective_rank_by_svd(centred), rel=1e-4)


def test_rank_of_many_atoms_is_that_of_a_sample(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = made(images)
    monkeypatch.setattr(evaluation, "_ATOMS", 8)
    atoms = model.dictionary.atoms(model.coords)[::4].detach().double()
    centred = (atoms - atoms.mean(1, keepdim=True)).flatten(1).numpy()
    assert atoms_rank(model) == pytest.approx(effective_rank_by_svd(centred), rel=1e-4)


@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_pictures(images: Path, colour: str) -> None:
    model, task = made(images, f"signals.colour={colour}")
    usage = torch.arange(32)
    shown = pictures(model, task, usage)
    assert set(shown) == {"val/d.png", "experts/most_used"}
    original, reconstruction, error = np.split(shown["val/d.png"], 3, axis=1)
    _, image = next(task.images("val"))
    assert np.array_equal(original, image)
    expected = np.clip(8 * np.abs(reconstruction - image).mean(2), 0, 1)
    np.testing.assert_allclose(error, np.broadcast_to(expected[..., None], image.shape), atol=1e-5)
    assert error.mean() < 0.9
    sheet = shown["experts/most_used"]
    assert sheet.shape == (6 * 9, 6 * 9, image.shape[2])  # 32 tiles of 8 x 8 with a white line, on 6 x 6 places
    atom = model.dictionary.atoms(model.coords).detach()[31].unflatten(0, (8, 8)).numpy()  # the most used comes first
    np.testing.assert_allclose(sheet[:8, :8], 0.5 + 0.5 * atom / np.abs(atom).max(), atol=1e-5)
    assert (sheet[8] == 1).all() and (sheet[:, 8] == 1).all() and (sheet[-9:, -9:] == 1).all()


def test_of_a_large_image_the_middle_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_SIDE", 16)
    images = write_pictures(tmp_path / "images")
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[16:32, 24:40] = 200
    Image.fromarray(pixels).save(images / "d.png")
    model, task = made(images)
    shown = pictures(model, task, torch.zeros(32, dtype=torch.long))["val/d.png"]
    assert shown.shape == (16, 48, 3)
    np.testing.assert_allclose(shown[:, :16], 200 / 255, atol=1e-6)
    whole, _ = made(images, "signals.patch=null", "signals.size=20")
    task = ImageTask(tiny(images, images, "signals.patch=null", "signals.size=20"))
    assert pictures(whole, task, torch.zeros(32, dtype=torch.long))["val/d.png"].shape == (20, 60, 3)
