"""What a training measures of its atoms, and the sheet that shows them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nid_dist.model import Model
from nid_dist.tasks.images.task import ImageTask
from nid_dist.tasks.shapes.task import ShapeTask
from nid_dist.training import evaluation
from nid_dist.training.evaluation import effective_rank, pictures
from tests.tasks.shapes import test_task as test_shapes
from tests.tiny import tiny


def made(images: Path, *overrides: str) -> tuple[Model, ImageTask]:
    task = ImageTask(tiny(images, images / "never", *overrides))
    return task.model().eval(), task


def effective_rank_by_svd(rows: np.ndarray) -> float:
    singular = np.linalg.svd(rows, compute_uv=False)
    share = singular / singular.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


@pytest.mark.parametrize("experts", [5, 32])
def test_rank_of_centred_atoms(images: Path, experts: int) -> None:
    model, _ = made(images, f"dictionary.experts={experts}")
    atoms = model.dictionary.atoms(model.coords).detach().double()
    centred = (atoms - atoms.mean(1, keepdim=True)).flatten(1).numpy()
    assert effective_rank(model) == pytest.approx(effective_rank_by_svd(centred), rel=1e-4)


def test_rank_of_many_atoms_is_that_of_a_sample(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = made(images)
    monkeypatch.setattr(evaluation, "_ATOMS", 8)
    atoms = model.dictionary.atoms(model.coords)[::4].detach().double()
    centred = (atoms - atoms.mean(1, keepdim=True)).flatten(1).numpy()
    assert effective_rank(model) == pytest.approx(effective_rank_by_svd(centred), rel=1e-4)


@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_pictures(images: Path, colour: str) -> None:
    model, task = made(images, f"signals.colour={colour}")
    shown = pictures(model, task, torch.arange(32))
    own = task.pictures(model)
    assert set(shown) == {*own, "experts/most_used"}
    assert all(np.array_equal(shown[name], picture) for name, picture in own.items())
    sheet = shown["experts/most_used"]
    assert sheet.shape == (6 * 9, 6 * 9, task.channels)  # 32 tiles of 8 x 8 with a white line, on 6 x 6 places
    atom = model.dictionary.atoms(model.coords).detach()[31].unflatten(0, (8, 8)).numpy()  # the most used comes first
    np.testing.assert_allclose(sheet[:8, :8], 0.5 + 0.5 * atom / np.abs(atom).max(), atol=1e-5)
    assert (sheet[8] == 1).all() and (sheet[:, 8] == 1).all() and (sheet[-9:, -9:] == 1).all()


def test_atoms_in_space_are_shown_as_slices(tmp_path: Path) -> None:
    task = ShapeTask(test_shapes.tiny(tmp_path, "signals.lattice=5"))
    model = task.model().eval()
    sheet = pictures(model, task, torch.arange(32))["experts/most_used"]
    assert sheet.shape == (6 * 6, 6 * 6, 1)
    atom = model.dictionary.atoms(model.coords).detach()[31].reshape(5, 5, 5).numpy()
    np.testing.assert_allclose(sheet[:5, :5, 0], 0.5 + 0.5 * atom[2] / np.abs(atom).max(), atol=1e-5)
