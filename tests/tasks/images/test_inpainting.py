"""Inpainting: what a dictionary knows of hidden pixels, what it finds by itself, and clear refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nid_dist.code import load_codes
from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.export import load
from nid_dist.model import Model
from nid_dist.tasks.images.corruptions import corrupt
from nid_dist.tasks.images.inpainting import inpaint
from nid_dist.tasks.images.known_pixels import find_known
from nid_dist.tasks.images.task import ImageTask
from tests.tiny import picture, tiny

IMAGE = (picture(4) / 255).astype(np.float32)


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load(run)


@pytest.mark.parametrize(("name", "kept"), [("box", 1.0), ("stripes", 1.0), ("random", 0.5), ("random", 0.1)])
def test_hidden_pixels_are_filled(name: str, kept: float, model: Model) -> None:
    corrupted = corrupt(IMAGE, name, kept=kept)
    lost = ~corrupted.known
    # What stands at unknown pixels is not looked at, not even if it is no number.
    hidden = np.where(lost[..., None], np.float32(np.nan), corrupted.image)
    result = inpaint(model, hidden, corrupted.known)
    assert result.render().shape == IMAGE.shape and np.isfinite(result.render()).all()
    means = np.broadcast_to(IMAGE[corrupted.known].mean(0), IMAGE.shape)
    assert psnr(result.render()[lost], IMAGE[lost]) > psnr(means[lost], IMAGE[lost]) + 1
    assert np.array_equal(result.trusted > 0.5, corrupted.known)
    assert result.deviation is not None and result.deviation.min() > 0


def test_outliers_are_found(model: Model) -> None:
    corrupted = corrupt(IMAGE, "salt_and_pepper")
    known = find_known(model, corrupted.image).numpy() > 0.5
    # Outliers by half of the range or more; of the others few are lost.
    far = np.abs(corrupted.image - IMAGE).max(2) > 0.5
    assert known[far].mean() < 0.2 and known[corrupted.known].mean() > 0.7
    blind = inpaint(model, corrupted.image)
    assert psnr(blind.render(), IMAGE) > psnr(corrupted.image, IMAGE) + 5


@pytest.mark.parametrize("kind", ["text", "stripes"])
def test_what_covers_patches_is_found(kind: str, model: Model) -> None:
    corrupted = corrupt(IMAGE, kind)
    blind = inpaint(model, corrupted.image)
    far = ~corrupted.known & (np.abs(corrupted.image - IMAGE).max(2) > 0.3)
    assert (blind.trusted[far] < 0.5).mean() > 0.9
    assert 0 < blind.corrupted < 0.6 and psnr(blind.render(), IMAGE) > psnr(corrupted.image, IMAGE) + 3


def test_an_image_half_of_which_looks_corrupted_is_said(model: Model) -> None:
    halves = np.zeros((24, 32, 3), np.float32)
    halves[:, :16] = 1
    with pytest.warns(UserWarning, match="of the image look corrupted"):
        assert find_known(model, halves).mean() == 0.5


@pytest.mark.parametrize("value", [0.0, 0.4])
@pytest.mark.parametrize("shares", [None, 0.5, 0.0])
def test_constant_images_stay_constant(value: float, shares: float | None, model: Model) -> None:
    image, known = np.full((24, 32, 3), value, np.float32), None
    if shares is not None:
        known = np.random.default_rng(0).random((24, 32)) < shares
        known[11:13, 15:17] = True  # or all of them in one spot
    found = inpaint(model, image, known)
    assert np.isfinite(found.render()).all() and 0 <= found.residual <= 1
    assert np.abs(found.render() - image).max() < (0.05 if shares != 0.0 else 0.3)


def test_f_is_codes_and_detail(model: Model, tmp_path: Path) -> None:
    corrupted = corrupt(IMAGE, "random", kept=0.5)
    fit = inpaint(model, corrupted.image, corrupted.known, noise=0.02)
    codes = replace(fit, detail=None)
    assert fit.detail is not None and fit.psnr > max(codes.psnr, 34)  # known pixels are met up to their noise
    assert fit.render(48, 64).shape == (48, 64, 3) and fit.judgement == codes.judgement
    fit.write(tmp_path)
    kept = load_codes(tmp_path / "detail.safetensors")[0]["detail"].detail
    assert kept is not None and torch.equal(kept.values, fit.detail.values)


def test_a_dictionary_without_prior_fits_its_codes_to_what_is_known(images: Path, tmp_path: Path) -> None:
    task = ImageTask(tiny(images, tmp_path / "run", "coding.prior_rank=0", "dictionary.init=random"))
    torch.manual_seed(0)
    model = task.model().eval().requires_grad_(False)
    corrupted = corrupt(IMAGE, "random", kept=0.5)
    result = inpaint(model, corrupted.image, corrupted.known)
    assert result.deviation is None
    means = np.broadcast_to(IMAGE[corrupted.known].mean(0), IMAGE.shape)
    assert psnr(result.render(), IMAGE) > psnr(means, IMAGE)
    assert inpaint(model, corrupted.image).trusted.shape == (24, 32)


def test_masks_that_cannot_be_are_refused(model: Model, images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the mask: found 3x4 pixels, expected 24x32"):
        inpaint(model, IMAGE, np.ones((3, 4), bool))
    with pytest.raises(UserError, match="the mask: found no known pixel"):
        inpaint(model, IMAGE, np.zeros((24, 32), bool))
    whole = ImageTask(tiny(images, tmp_path, "signals.patch=null", "signals.stride=null", "signals.size=12")).model()
    with pytest.raises(UserError, match="found one of whole images"):
        inpaint(whole, IMAGE, np.ones((24, 32), bool))


def test_another_number_of_channels_is_refused(model: Model) -> None:
    with pytest.raises(UserError, match=r"the image: found 1 channel\(s\), expected 3"):
        inpaint(model, IMAGE[..., :1], np.ones((24, 32), bool))
