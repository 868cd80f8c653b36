"""Linear images are biharmonic: they are filled exactly."""

import numpy as np

from nid_dist.tasks.images.biharmonic import biharmonic


def test_a_ramp_is_filled_exactly_and_what_is_unknown_is_not_looked_at() -> None:
    rows, columns = np.mgrid[:16, :16] / 16
    image = np.stack([rows, columns, 0.5 * (rows + columns)], -1).astype(np.float32)
    known = np.ones((16, 16), bool)
    known[5:9, 6:10] = False
    hidden = np.where(known[..., None], image, np.float32(np.nan))
    assert np.abs(biharmonic(hidden, known) - image).max() < 1e-5


def test_nothing_unknown() -> None:
    image = np.random.default_rng(0).random((8, 8, 1), dtype=np.float32)
    assert np.array_equal(biharmonic(image, np.ones((8, 8), bool)), image)
