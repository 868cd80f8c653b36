import math

import numpy as np
import pytest

from nid_dist.measurements.geometry import Geometry, shadow


def test_even_parallel_views() -> None:
    geometry = Geometry.even(4, 5)
    assert np.allclose(geometry.angles, np.deg2rad([0, 45, 90, 135]))
    assert np.allclose(geometry.positions, [-0.8, -0.4, 0, 0.4, 0.8])
    assert (geometry.views, geometry.size, geometry.beam, geometry.pitch) == (4, 20, "parallel", 0.4)
    angles, offsets = geometry.lines
    assert angles.reshape(4, 5)[:, 0].tolist() == pytest.approx(geometry.angles.tolist())
    assert offsets.reshape(4, 5)[2].tolist() == pytest.approx(geometry.positions.tolist())


def test_a_fan_by_hand() -> None:
    """From a source at distance 2, the tangents of the disc leave at 30 degrees and pass it at offset 1."""
    geometry = Geometry(np.array([0.0]), 3, 3 * shadow(2.0), 2.0)
    angles, offsets = geometry.lines
    assert shadow(2.0) == pytest.approx(2 * math.tan(math.pi / 6))
    assert offsets.tolist() == pytest.approx([-1, 0, 1])
    assert np.rad2deg(angles.numpy()).tolist() == pytest.approx([30, 0, -30])
    assert geometry.beam == "fan"


def test_the_lines_of_a_fan_meet_in_its_source() -> None:
    geometry = Geometry.even(5, 7, 3.0)
    angles, offsets = (line.numpy().reshape(5, 7) for line in geometry.lines)
    # The source lies behind the axis: at minus 3 along the central line, whose direction is the normal turned left.
    x, y = 3 * np.sin(geometry.angles), -3 * np.cos(geometry.angles)
    assert np.allclose(x[:, None] * np.cos(angles) + y[:, None] * np.sin(angles), offsets)


def test_finer_bins_have_the_same_means() -> None:
    geometry = Geometry.even(2, 5)
    assert np.allclose(geometry.finer(3).positions.reshape(5, 3).mean(1), geometry.positions)


@pytest.mark.parametrize(("width", "source", "covers"), [(2.0, None, True), (1.9, None, False), (2.2, 2.0, False)])
def test_covers(width: float, source: float | None, covers: bool) -> None:
    assert Geometry(np.zeros(1), 8, width, source).covers is covers


@pytest.mark.parametrize(
    ("angles", "bins", "width", "source"), [([], 4, 2.0, None), ([0], 0, 2, None), ([0], 4, 2, 1.0)]
)
def test_refuses(angles: list[float], bins: int, width: float, source: float | None) -> None:
    with pytest.raises(ValueError, match="geometry|source"):
        Geometry(np.array(angles, dtype=float), bins, float(width), source)
