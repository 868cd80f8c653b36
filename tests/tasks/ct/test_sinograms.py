"""Measured sinograms: what is read, and everything that can be wrong with them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nid_dist.errors import UserError
from nid_dist.measurements.geometry import Geometry
from nid_dist.tasks.ct.phantoms import Phantom, shepp_logan
from nid_dist.tasks.ct.sinograms import read_scan

GEOMETRY: dict[str, Any] = {"unit": "degrees", "views": 6, "bins": 21}


def write(folder: Path, sinogram: np.ndarray | None = None, **changes: Any) -> tuple[Path, Path]:
    values = shepp_logan().sinogram(Geometry.even(6, 21)).reshape(6, 21) if sinogram is None else sinogram
    np.save(folder / "s.npy", values)
    written = {key: value for key, value in (GEOMETRY | changes).items() if value is not None}
    (folder / "g.yaml").write_text(yaml.safe_dump(written))
    return folder / "s.npy", folder / "g.yaml"


def test_reads_a_scan(tmp_path: Path) -> None:
    scan = read_scan(*write(tmp_path, photons=5000.0))
    assert np.rad2deg(scan.geometry.angles).tolist() == pytest.approx([0, 30, 60, 90, 120, 150])
    assert scan.sinogram.dtype == np.float32 and scan.dose.photons == 5000
    assert np.allclose(scan.sinogram, shepp_logan().sinogram(Geometry.even(6, 21)), atol=1e-6)


def test_lengths_and_attenuation_in_other_units(tmp_path: Path) -> None:
    """A head of radius 90 mm, of 0.02 nepers per mm where its value is 1."""
    whole = shepp_logan().sinogram(Geometry.even(6, 21)).reshape(6, 21)
    scan = read_scan(*write(tmp_path, whole * 90 * 0.02, radius=90.0, width=180.0, scale=0.02))
    assert np.allclose(scan.sinogram, whole.reshape(-1), atol=1e-6)
    assert scan.geometry.width == pytest.approx(2) and scan.dose.attenuation == pytest.approx(1.8)


def test_fans_and_listed_angles(tmp_path: Path) -> None:
    angles = [0.0, 0.3, 1.1, 2.2, 3.0, 6.0]
    geometry = Geometry(np.array(angles), 21, 2.5, 3.0)
    values = shepp_logan().sinogram(geometry).reshape(6, 21)
    changes = {"beam": "fan", "unit": "radians", "views": None, "angles": angles, "radius": 2.0}
    scan = read_scan(*write(tmp_path, 2 * values, source=6.0, width=5.0, **changes))
    assert scan.geometry.source == 3 and scan.geometry.width == 2.5 and scan.geometry.angles.tolist() == angles
    assert np.allclose(scan.sinogram, values.reshape(-1), atol=1e-5)
    whole = read_scan(*write(tmp_path, values, beam="fan", source=3.0))
    assert np.rad2deg(whole.geometry.angles[-1]) == pytest.approx(300) and whole.geometry.covers


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unit": "radians", "arc": 180.0}, "up to 150 with unit radians, expected at most 6.283"),
        ({"unit": "radians", "views": None, "angles": [0, 30, 60, 90, 120, 150]}, "set unit to degrees"),
        ({"unit": None}, "unit"),
        ({"views": 0}, "views: found 0"),
        ({"views": None, "angles": []}, "zero views"),
        ({"views": None}, "one of views and angles"),
        ({"views": 7}, r"an array of shape \(6, 21\), expected \(7, 21\)"),
        ({"views": 21, "bins": 6}, "transpose it"),
        ({"width": 1.5}, "truncated"),
        ({"radius": 1.3, "width": 2.0}, "truncated"),
        ({"source": 3.0}, "only a fan"),
        ({"beam": "fan", "source": 0.5}, "lies within radius"),
        ({"beans": 21}, "unknown key beans"),
        ({"bins": -3}, "bins"),
        ({"scale": 0.1}, "correct scale"),
    ],
)
def test_a_geometry_that_cannot_be(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read_scan(*write(tmp_path, **changes))


def test_radians_given_as_degrees(tmp_path: Path) -> None:
    paths = write(tmp_path, views=None, angles=(np.arange(6) * math.pi / 6).tolist())
    with pytest.warns(UserWarning, match="within 2.62 degrees; if these are radians"):
        read_scan(*paths)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    values = shepp_logan().sinogram(Geometry.even(6, 21)).reshape(6, 21)
    values[2, 3], values[4, 4] = np.nan, np.inf
    with pytest.raises(UserError, match="2 of 126 numbers that are NaN or infinite"):
        read_scan(*write(tmp_path, values))


def test_an_object_beyond_the_detector(tmp_path: Path) -> None:
    """A disc of radius 0.9 and value 0.7 on a detector of half the width, whose geometry says that it was whole."""
    disc = Phantom(np.array([[0.7, 0.9, 0.9, 0.0, 0.0, 0.0]]))
    values = disc.sinogram(Geometry(Geometry.even(6, 21).angles, 21, 1.0)).reshape(6, 21)
    with pytest.raises(UserError, match="at the detector's ends: truncated"):
        read_scan(*write(tmp_path, values * 2))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "cannot be read"),
        (b"\x93NUMPY\x01", "cannot be read"),
        (b"words", "cannot be read"),
    ],
)
def test_files_that_are_no_sinogram(content: bytes | None, words: str, tmp_path: Path) -> None:
    sinogram, geometry = write(tmp_path)
    sinogram.unlink()
    if content is not None:
        sinogram.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_scan(sinogram, geometry)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    sinogram, geometry = write(tmp_path)
    np.save(sinogram, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        read_scan(sinogram, geometry)
    np.save(sinogram, np.full((6, 21), 1 + 1j))
    with pytest.raises(UserError, match="complex128"):
        read_scan(sinogram, geometry)


@pytest.mark.parametrize("given", [{"axis": 11.0}, {"offset": -1.0 / 21}], ids=["axis", "offset"])
def test_the_axis_beside_the_centre(given: dict[str, float], tmp_path: Path) -> None:
    """One bin of 2 / 21 radii higher than the middle of 21 is bin 11; the detector's centre lies a bin lower."""
    geometry = Geometry(Geometry.even(6, 21).angles, 21, 2.0, None, -2.0 / 21)
    values = shepp_logan().sinogram(geometry).reshape(6, 21)
    changes = {"axis": given["axis"]} if "axis" in given else {"offset": given["offset"], "radius": 0.5, "scale": 2.0}
    scan = read_scan(*write(tmp_path, values, **changes))
    assert scan.geometry.axis == pytest.approx(11) and scan.geometry.alike(geometry)


def test_arcs_and_angles_that_grow_clockwise(tmp_path: Path) -> None:
    angles = -np.arange(6) * math.pi / 3
    geometry = Geometry(angles, 21, 2 * 3 * math.asin(1 / 3), 3.0, 0.0, "arc")
    values = shepp_logan().sinogram(geometry).reshape(6, 21)
    changes = {"beam": "fan", "source": 3.0, "detector": "arc", "direction": "clockwise"}
    assert read_scan(*write(tmp_path, values, **changes)).geometry.alike(geometry)


@pytest.mark.parametrize("turned", [False, True])
def test_scikit_image_s_convention(turned: bool, tmp_path: Path) -> None:
    """Bins first, in pixels, about bin 10 of 20; the numbers themselves are another test's."""
    values = np.full((20, 6), 1.0) * np.sin(np.arange(20) * math.pi / 19)[:, None] ** 2 * 10
    changes: dict[str, Any] = {"convention": "skimage", "bins": 20}
    scan = read_scan(*write(tmp_path, values.T if turned else values, **changes))
    assert scan.geometry.alike(Geometry.skimage(np.deg2rad(np.arange(6) * 30.0), 20))
    assert np.allclose(scan.sinogram.reshape(6, 20)[2], values[:, 2] / 10) and scan.geometry.axis == 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"axis": 10.0, "offset": 0.0}, "offset and axis say the same"),
        ({"axis": 30.0}, "axis 30 lies off the detector"),
        ({"axis": 4.0}, "axis: found a detector of width 2, its centre 0.5714 from the axis: truncated"),
        ({"offset": 0.9, "width": 2.2}, "hardly more than one half are not reconstructed"),
        ({"detector": "arc"}, "only a fan's detector is an arc"),
        ({"convention": "skimage", "axis": 10.0}, "axis and convention skimage do not fit"),
        ({"convention": "skimage", "radius": 9.8}, "not half a number of pixels"),
        ({"beam": "fan", "source": 3.0, "width": 2.6, "offset": 0.7}, "truncated"),
    ],
)
def test_axes_that_cannot_be(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read_scan(*write(tmp_path, **changes))
