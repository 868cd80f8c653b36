"""Masks as people make them: white, transparent, inverted, of another scale."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.tasks.images.masks import doubt_mask, mask_array, read_mask, read_opaque
from tests.tiny import picture

SHAPE = (24, 32)
KNOWN = np.ones(SHAPE, bool)
KNOWN[6:16, 8:20] = False  # 120 of 768 pixels
PHOTOGRAPH = (picture(4) / 255).astype(np.float32)


def written(path: Path, samples: np.ndarray) -> Path:
    Image.fromarray(samples).save(path)
    return path


def with_alpha(colour: np.ndarray | int, alpha: np.ndarray) -> np.ndarray:
    grey = np.broadcast_to(np.asarray(colour, np.uint8), SHAPE)
    return np.dstack([grey, grey, grey, (255 * alpha).astype(np.uint8)])


def quiet(path: Path, unknown: str | None = None) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_mask(path, unknown)


def test_white_is_known_or_unknown(tmp_path: Path) -> None:
    path = written(tmp_path / "m.png", (255 * KNOWN).astype(np.uint8))
    np.testing.assert_array_equal(quiet(path), KNOWN)
    np.testing.assert_array_equal(quiet(path, "black"), KNOWN)
    np.testing.assert_array_equal(quiet(path, "white"), ~KNOWN)
    with pytest.raises(UserError, match="m.png: found no transparent pixel"):
        read_mask(path, "alpha")


def test_a_transparent_hole_is_unknown(tmp_path: Path) -> None:
    """Erased from white, or from the photograph itself, whatever it was before."""
    for colour in (255, picture(4)[..., 0] // 2 + 128):
        path = written(tmp_path / "m.png", with_alpha(colour, KNOWN))
        np.testing.assert_array_equal(quiet(path), KNOWN)
        np.testing.assert_array_equal(quiet(path, "alpha"), KNOWN)


def test_strokes_painted_on_nothing(tmp_path: Path) -> None:
    """Black or white where something is to be filled: nothing else can say so than a person."""
    black = written(tmp_path / "b.png", with_alpha(0, ~KNOWN))
    np.testing.assert_array_equal(quiet(black, "black"), KNOWN)
    np.testing.assert_array_equal(quiet(written(tmp_path / "w.png", with_alpha(255, ~KNOWN)), "white"), KNOWN)
    with pytest.warns(DoubtfulMeaning, match="b.png: found a mask with transparent pixels, and 16% of black ones"):
        np.testing.assert_array_equal(read_mask(black), ~KNOWN)


@pytest.mark.parametrize("samples", [KNOWN.astype(np.uint8), 4095 * KNOWN.astype(np.uint16)])
def test_two_brightnesses_of_another_scale(tmp_path: Path, samples: np.ndarray) -> None:
    path = written(tmp_path / "m.png", samples)
    with pytest.warns(DoubtfulMeaning, match="a mask of two brightnesses.*taken as black and white") as said:
        np.testing.assert_array_equal(read_mask(path), KNOWN)
    assert len(said) == 1


def test_a_photograph_is_no_mask(tmp_path: Path) -> None:
    with pytest.warns(DoubtfulMeaning, match="is neither black nor white"):
        read_mask(written(tmp_path / "p.png", picture(4)))


def test_soft_edges_of_a_jpeg_are_no_greys(tmp_path: Path) -> None:
    Image.fromarray((255 * np.kron(KNOWN, np.ones((8, 8)))).astype(np.uint8)).save(tmp_path / "m.jpg", quality=60)
    np.testing.assert_array_equal(quiet(tmp_path / "m.jpg"), np.kron(KNOWN, np.ones((8, 8))) > 0)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32"])
def test_arrays(dtype: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(mask_array(KNOWN.astype(dtype)), KNOWN)
        np.testing.assert_array_equal(mask_array(KNOWN.astype(dtype), "white"), ~KNOWN)
    with pytest.raises(UserError, match=r"the mask: found an array of shape \(24, 32, 1\)"):
        mask_array(KNOWN[..., None])


def doubts(known: np.ndarray, image: np.ndarray = PHOTOGRAPH) -> str:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        doubt_mask(known, image)
    return " ".join(str(each.message) for each in said)


def test_masks_that_are_meant_so() -> None:
    scattered = np.random.default_rng(0).random(SHAPE) < 0.1
    blank = np.where(KNOWN[..., None], PHOTOGRAPH, 0).astype(np.float32)
    for known, image in ((KNOWN, PHOTOGRAPH), (KNOWN, blank), (scattered, PHOTOGRAPH), (scattered, blank)):
        assert doubts(known, image) == ""
    left = np.zeros(SHAPE, bool)
    left[:, :10] = True
    assert doubts(left) == ""


def test_masks_that_are_hardly_meant_so() -> None:
    assert "found no pixel unknown" in doubts(np.ones(SHAPE, bool))
    few = np.zeros(SHAPE, bool)
    few[:1] = True  # 32 of 768 pixels
    assert "hardly any pixel known, taken as 95.8% of the pixels unknown" in doubts(few)
    blank = np.where(KNOWN[..., None], PHOTOGRAPH, 1).astype(np.float32)
    assert "100% of the known pixels of one colour" in doubts(~KNOWN, blank)
    # Nothing is blank, but a hole does not surround what is known.
    assert "no pixel of the image's border known, taken as 70.3% of the pixels unknown" in doubts(~_wide())
    lost = np.random.default_rng(0).random(SHAPE) < 0.9
    blank = np.where(lost[..., None], 0, PHOTOGRAPH).astype(np.float32)
    assert "100% of the known pixels of one colour" in doubts(lost, blank)


def _wide() -> np.ndarray:
    known = np.ones(SHAPE, bool)
    known[5:17, 6:25] = False
    return known


def test_what_is_transparent_in_an_image_is_not_known(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([picture(4), (255 * KNOWN).astype(np.uint8)])).save(tmp_path / "p.png")
    image, opaque = read_opaque(tmp_path / "p.png", "rgb")
    np.testing.assert_array_equal(opaque, KNOWN)
    np.testing.assert_allclose(image[KNOWN], PHOTOGRAPH[KNOWN], atol=1e-7)
    assert read_opaque(written(tmp_path / "o.png", picture(4)), "rgb")[1] is None
