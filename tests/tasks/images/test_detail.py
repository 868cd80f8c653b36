"""Whole images whose codes have detail: fitted beside the learned experts, rendered at any size, kept in a file."""

from pathlib import Path

import numpy as np
import pytest
import torch

import nid_dist
from nid_dist.code import load_codes
from nid_dist.coding.method import Method
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.errors import UserError
from nid_dist.evaluation.operations import stored_numbers
from nid_dist.model import Model
from nid_dist.tasks.images.fit import fit_image, write_codes
from nid_dist.training.run import train
from tests.tiny import picture, tiny

OMP = [Method("omp")]
IMAGE = picture(3, 16, 16).astype(np.float32) / 255
WHOLE = ("signals.patch=null", "signals.stride=null", "signals.size=16", "training.steps=3")


@pytest.fixture(scope="module", params=[1, 2])
def model(images: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Model:
    run = tmp_path_factory.mktemp("whole") / "run"
    train(tiny(images, run, *WHOLE, f"dictionary.private_layers={request.param}", "dictionary.private_width=4"))
    return nid_dist.load(run)


def test_detail_is_fitted_together_with_the_learned_experts(model: Model, tmp_path: Path) -> None:
    plain, fine = (fit_image(model, IMAGE, OMP, detail=count)["omp"] for count in (None, 60))
    assert plain.code.detail is None and fine.code.detail is not None and fine.code.detail.numbers == 60
    assert fine.psnr > plain.psnr + 5
    assert torch.equal(fine.code.indices, plain.code.indices)
    assert stored_numbers(fine.code) == stored_numbers(plain.code) + 60
    assert fine.figures(fine.render())["detail_numbers"] == 60
    # No other coefficients of the same experts, biases and splines come closer.
    coords = coordinate_grid((16, 16))
    one = torch.eye(60)
    splines = [type(fine.code.detail)((16, 16), 3, fine.code.detail.members, row)(coords).flatten() for row in one]
    atoms = [model.dictionary.atoms(coords, j, j + 1).flatten() for j in fine.code.indices[0].tolist()]
    biases = list(torch.eye(3).repeat(1, len(coords)))
    matrix = torch.stack([*atoms, *biases, *splines], 1).double()
    target = torch.from_numpy(IMAGE).flatten().double()
    best = target - matrix @ torch.linalg.lstsq(matrix, target[:, None], driver="gelsd").solution[:, 0]
    given = model.evaluate(fine.code, coords).flatten().double() - target
    assert float(given.norm()) == pytest.approx(float(best.norm()), rel=1e-3)
    # A function of place: a finer grid passes through the same points.
    finer = fine.render(48, 48)
    assert np.abs(finer[1::3, 1::3] - fine.render()).max() < 1e-4
    write_codes(tmp_path, {"omp": fine})
    loaded = load_codes(tmp_path / "codes.safetensors")[0]["omp"]
    assert torch.allclose(model.evaluate(loaded, coords), model.evaluate(fine.code, coords), atol=1e-4)


def test_the_library_takes_it_and_says_where_it_cannot(model: Model, run: Path) -> None:
    assert model.fit(IMAGE, "omp", detail=10).code.detail.numbers == 10
    assert model.fit(picture(1, 9, 21).astype(np.float32) / 255, "omp", detail=30).psnr > 10
    with pytest.raises(UserError, match=r"^detail: found 0"):
        model.fit(IMAGE, "omp", detail=0)
    patches = nid_dist.load(run)
    with pytest.raises(UserError, match="detail: found 5 with a dictionary of patches of 8 pixels"):
        patches.fit(IMAGE, "omp", detail=5)
    with pytest.raises(UserError, match="detail: found 5 with a mask"):
        patches.fit(IMAGE, detail=5, mask=np.ones((16, 16), bool))


def test_a_constant_image_needs_no_detail(model: Model) -> None:
    found = model.fit(np.full((16, 16, 3), 0.25, np.float32), "omp", detail=50)
    assert found.code.detail.numbers == 0 and found.psnr > 80


def test_no_more_than_the_image_has_numbers(model: Model) -> None:
    found = model.fit(IMAGE[:2, :3], "omp", detail=5000)
    assert found.code.detail.numbers <= 18 and np.isfinite(found.render(7, 8)).all()
