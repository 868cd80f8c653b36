"""What is known stays as it was, what is not says nothing, and equal seeds spoil alike."""

import numpy as np
import pytest

from nid_dist.errors import UserError
from nid_dist.tasks.images.corruptions import CORRUPTIONS, corrupt
from tests.tiny import picture

IMAGE = (picture(0, 48, 64) / 255).astype(np.float32)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [3, 1])
def test_what_is_known_is_untouched(name: str, channels: int) -> None:
    image = IMAGE[..., :channels]
    corrupted = corrupt(image, name)
    assert corrupted.image.dtype == np.float32 and corrupted.known.shape == image.shape[:2]
    assert np.array_equal(corrupted.image[corrupted.known], image[corrupted.known])
    assert 0 < (~corrupted.known).mean() < 1 and corrupted.image.min() >= 0 and corrupted.image.max() <= 1
    again = corrupt(image, name)
    assert np.array_equal(again.image, corrupted.image) and np.array_equal(again.known, corrupted.known)


def test_shares() -> None:
    known = {name: corrupt(IMAGE, name, kept=0.02).known.mean() for name in CORRUPTIONS}
    assert known["random"] == pytest.approx(0.02, abs=1 / IMAGE[..., 0].size)
    assert known["box"] == pytest.approx(1 - 1 / 9, abs=0.01)
    assert known["stripes"] == pytest.approx(2 / 3, abs=0.05)
    assert known["occluder"] == pytest.approx(15 / 16)
    assert known["salt_and_pepper"] == pytest.approx(0.85, abs=0.03)
    assert 0.5 < known["text"] < 0.95


def test_seeds_draw() -> None:
    one, two = (corrupt(IMAGE, "random", kept=0.5, seed=seed).known for seed in (1, 2))
    assert not np.array_equal(one, two)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="found 'fog', expected one of box, stripes"):
        corrupt(IMAGE, "fog")
    with pytest.raises(UserError, match="above 0, at most 1"):
        corrupt(IMAGE, "random", kept=0.0)
