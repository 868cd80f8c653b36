"""More resolution: the means stay the given pixels, no seams, any scale, clear refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.export import load
from nid_dist.measurements.area import area_means
from nid_dist.model import Model
from nid_dist.tasks.images.super_resolution import factor_of, super_resolve
from tests.tiny import picture

IMAGE = (picture(4) / 255).astype(np.float32)


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load(run)


def test_the_means_of_a_finer_image_are_the_given_pixels(model: Model) -> None:
    coarse = area_means(torch.from_numpy(IMAGE), 2).numpy()
    fit = super_resolve(model, coarse, 2.0)
    picture = fit.render()
    assert picture.shape == IMAGE.shape and fit.factor == 2 and fit.deviation.shape == IMAGE.shape[:2]
    by_hand = picture.reshape(12, 2, 16, 2, 3).mean((1, 3))
    assert fit.psnr == pytest.approx(psnr(by_hand, coarse), abs=1e-3)
    assert fit.psnr > psnr(np.broadcast_to(coarse.mean((0, 1)), coarse.shape), coarse) + 8
    assert psnr(picture, IMAGE) > 30


def test_a_scale_that_is_not_whole_is_shown_from_the_next_grid(model: Model) -> None:
    fit = super_resolve(model, IMAGE, 1.5)
    assert fit.factor == 2 and fit.render().shape == (36, 48, 3) and fit.fine().shape == (48, 64, 3)
    assert [factor_of(16, scale) for scale in (1.01, 2.0, 2.5, 4.0, 5.0, 30.0)] == [2, 2, 4, 4, 8, 8]


def test_no_seams_at_the_borders_of_patches(model: Model) -> None:
    # Of an image that is alike everywhere, in a grid of patches that it does not know.
    rows, columns = np.mgrid[:40, :40]
    image = (0.5 + 0.2 * np.sin(0.9 * rows[..., None] + 0.7 * columns[..., None] + np.arange(3))).astype(np.float32)
    fit = super_resolve(model, image, 2.0)
    assert fit.tiling.stride is not None
    steps = np.square(np.diff(fit.render(), axis=0)).mean((1, 2))[8:-8]
    border = (np.arange(8, 8 + len(steps)) + 1) % fit.tiling.stride == 0
    assert steps[border].mean() < 1.25 * steps[~border].mean()


def test_blocks_of_a_large_image_are_one_image(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = super_resolve(model, IMAGE, 2.0)
    monkeypatch.setattr("nid_dist.tasks.images.super_resolution._BLOCK", 7)
    assert np.abs(super_resolve(model, IMAGE, 2.0).deviation - whole.deviation).max() < 1e-4


def test_what_cannot_be_is_refused(model: Model) -> None:
    with pytest.raises(UserError, match="the scale: found 1 with patches of 8x8"):
        super_resolve(model, IMAGE, 1.0)
    with pytest.raises(UserError, match="what goes with scale: found 'omp'"):
        model.fit(IMAGE, "omp", scale=2)
    assert model.fit(IMAGE, scale=2).render().shape == (48, 64, 3)
