from typing import Any

import numpy as np
import pytest
from skimage.transform import resize

from nid_dist.errors import UserError
from nid_dist.tasks.images.preparation import prepare, prepared_shape, resized


def ramp(height: int, width: int, channels: int = 1) -> np.ndarray:
    return np.arange(height * width * channels, dtype=np.float32).reshape(height, width, channels) / 1e4


def test_nothing_to_do_returns_the_image() -> None:
    image = ramp(4, 5)
    np.testing.assert_array_equal(prepare(image), image)


def test_celeba_crop_is_central() -> None:
    image = ramp(218, 178)
    np.testing.assert_array_equal(prepare(image, crop=178), image[20:198])


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((218, 178), {"crop": 178, "size": 128}, (128, 128)),
        ((300, 451), {"short_side": 256}, (256, 385)),  # 451 * 256 / 300 = 384.9
        ((451, 300), {"short_side": 256}, (385, 256)),
        ((10, 30), {"size": 7}, (7, 7)),
        ((10, 30), {"short_side": 20, "size": 20}, (20, 20)),
        ((1, 1), {"short_side": 3}, (3, 3)),
        ((6, 9), {"crop": 4, "short_side": 8}, (8, 8)),
        ((5, 7), {}, (5, 7)),
    ],
)
def test_shapes(shape: tuple[int, int], options: dict[str, Any], expected: tuple[int, int]) -> None:
    assert prepared_shape(*shape, **options) == expected
    prepared = prepare(np.full((*shape, 3), 0.25, np.float32), **options)
    assert prepared.shape == (*expected, 3) and prepared.dtype == np.float32
    np.testing.assert_allclose(prepared, 0.25, atol=1e-6)


def test_size_takes_the_centre_square() -> None:
    image = np.zeros((4, 12, 1), np.float32)
    image[:, 4:8] = 1
    np.testing.assert_allclose(prepare(image, size=2), 1)


def test_enlarging_is_linear() -> None:
    # Pixel centres of 4 on 2 lie at 0.25, 0.75, 1.25, 1.75 pixels: -> 0, 1/4, 3/4, 1 between values 0 and 1.
    image = np.repeat(np.array([[[0.0], [1.0]]], np.float32), 2, axis=0)
    np.testing.assert_allclose(prepare(image, size=4)[1, :, 0], [0, 0.25, 0.75, 1], atol=1e-6)


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 0, 1, 0], np.float32), (64, 16))[..., None]
    shrunk = prepare(stripes, size=16)
    assert np.abs(shrunk[4:-4, 4:-4] - 0.25).max() < 0.1


def test_a_crop_larger_than_the_image_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"face.png: found 100x178 pixels, expected at least signals.crop 178"):
        prepare(ramp(100, 178), crop=178, name="face.png")


def test_an_explosion_of_pixels_is_refused() -> None:
    with pytest.raises(UserError, match="line.png: .*signals.short_side"):
        prepare(ramp(1, 60_000), short_side=512, name="line.png")


@pytest.mark.parametrize("size", [(7, 9), (14, 18), (23, 9), (7, 31)])
def test_enlarging_is_scikit_images(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((7, 9, 3)).astype(np.float32)
    expected = resize(image, size, order=1, mode="edge", anti_aliasing=False)
    made = resized(image, *size)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, expected, atol=1e-6)
