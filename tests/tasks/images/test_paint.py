"""Paint over pictures is found by its colour, and what is flat by nature is not taken for it."""

import numpy as np
import pytest

from nid_dist.tasks.images.corruptions import corrupt
from nid_dist.tasks.images.paint import find_paint


def _landscape(channels: int = 3) -> np.ndarray:
    """Smooth hills and a saturated sky that fades in, with a little noise where it is not saturated."""
    draws = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :72] / 64
    hills = 0.45 + 0.25 * np.sin(7 * rows + 3 * columns)[..., None] * np.linspace(1, 0.6, channels)
    sky = 3 * np.clip(0.4 - rows, 0, 1)[..., None]
    return np.clip(hills + sky + 0.02 * draws.normal(size=hills.shape), 0, 1).astype(np.float32)


_KINDS = ("box", "stripes", "text", "salt_and_pepper", "occluder")


# The box is over a dark picture: over one of about its grey it is like what surrounds it.
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_paint_is_found(kind: str, channels: int) -> None:
    clean = _landscape(channels) * np.float32(0.5 if kind == "box" else 1)
    corrupted = corrupt(clean, kind)
    found = find_paint(corrupted.image)
    seen = ~corrupted.known & (np.abs(corrupted.image - clean).max(2) > 0.2)
    assert found[seen].mean() > 0.9 and found[corrupted.known].mean() < 0.02


@pytest.mark.parametrize("channels", [1, 3])
def test_a_clean_picture_keeps_its_pixels(channels: int) -> None:
    assert find_paint(_landscape(channels)).mean() < 0.01


@pytest.mark.parametrize("value", [0.0, 0.37, 1.0])
def test_a_constant_is_not_paint(value: float) -> None:
    assert not find_paint(np.full((9, 5, 3), value, np.float32)).any()


def test_of_two_colours_at_most_one_is_paint() -> None:
    halves = np.zeros((20, 20, 3), np.float32)
    halves[:, :10] = 1
    assert find_paint(halves).mean() == 0.5


def test_smoothed_writing_is_found_with_its_edges() -> None:
    clean = _landscape()
    hard = np.zeros((256, 288), np.float32)
    for first in (22, 101, 183):  # bars five pixels wide, mixed at their edges
        hard[first : first + 21, 13:270] = hard[20:240, first : first + 22] = 1
    opacity = hard.reshape(64, 4, 72, 4).mean((1, 3))[..., None]
    found = find_paint(clean + opacity * (np.array([0.1, 0, 0.9], np.float32) - clean))
    mixed, free = (opacity[..., 0] > 0.2) & (opacity[..., 0] < 1), opacity[..., 0] == 0
    assert mixed.any() and found[opacity[..., 0] == 1].all()
    assert found[mixed].mean() > 0.9 and found[free].mean() < 0.05
