from pathlib import Path

import numpy as np
import pytest

from nid_dist.measurements.geometry import Geometry
from nid_dist.tasks.ct.config import PhantomsSection, Tomography
from nid_dist.tasks.ct.phantoms import named_phantom
from nid_dist.tasks.ct.scans import Scans, doses, finer_image, scan, scan_geometry, within_disc
from nid_dist.tasks.images.config import PhotosSection
from nid_dist.tasks.images.sources import ImageRef, list_images

SIGNALS = PhantomsSection(source="phantoms", phantoms=3, size=17, patch=None, colour="grey", test=["shepp-logan"])


@pytest.mark.parametrize("source", [None, 3.0])
def test_few_views_are_part_of_many(source: float | None) -> None:
    tomography = Tomography(views=[2, 4, 8], evaluated=[4], source=source)
    scans = Scans(list_images(SIGNALS)["train"], SIGNALS, tomography)
    for views in (2, 4, 8):
        exact = named_phantom("phantom-00001", 0).sinogram(scan_geometry(tomography, 17, views))
        assert np.allclose(scans.sinogram(1, views), exact, atol=1e-6)
        assert scans.geometry(views).views == views


def test_a_picture_is_scanned_in_finer_pixels(tmp_path: Path) -> None:
    """A disc, painted: its chords, where a sinogram of the training's few pixels would be coarse."""
    axis = (np.arange(80) + 0.5) / 40 - 1
    disc = (np.hypot(axis[:, None], axis[None]) < 0.6).astype(np.float32)
    np.save(tmp_path / "disc.npy", disc)
    signals = PhotosSection(source="folder", path=str(tmp_path), size=20, patch=None, colour="grey")
    geometry = Geometry.even(3, 20)
    found = scan(within_disc(list_images(signals)["train"][0]), signals, geometry).reshape(3, 20)
    exact = 2 * np.sqrt(np.clip(0.36 - geometry.positions**2, 0, None))
    inner = np.abs(geometry.positions) < 0.5
    assert np.allclose(found[:, inner], exact[inner], atol=0.02)


def test_within_disc(tmp_path: Path) -> None:
    np.save(tmp_path / "white.npy", np.ones((10, 30), dtype=np.float32))
    signals = PhotosSection(source="folder", path=str(tmp_path), size=10, patch=None, colour="grey")
    cut = within_disc(list_images(signals)["train"][0]).load()
    assert cut.shape == (10, 10, 1)
    assert cut[0, 0] == 0 and cut[0, 5] == 1 and cut[5, 0] == 1


def test_doses() -> None:
    found = doses(Tomography(photons=[None, 500.0], attenuation=3, electronic=2))
    assert [(dose.photons, dose.attenuation, dose.electronic) for dose in found] == [(None, 3, 2), (500, 3, 2)]


def test_a_finer_image_has_means_over_pixels_between_the_pixels() -> None:
    """Of a phantom against points, on a grid twice as fine: pixel (i, j) of it is centred at ((i + 1/2) / 2, ...)."""
    phantom = named_phantom("phantom-00003", 0)
    ref = ImageRef("phantom-00003", lambda: phantom.image(9).astype(np.float32)[..., None], phantom=lambda: phantom)
    section = PhantomsSection(source="phantoms", phantoms=8, size=9, patch=None, colour="grey")
    np.testing.assert_allclose(finer_image(ref, section, 1), phantom.image(9), atol=1e-6)
    found = finer_image(ref, section, 2)
    assert found.shape == (18, 18)
    points = phantom.image(36, 1)  # four a pixel and axis
    for row, column in ((7, 9), (12, 4)):
        first = 2 * row - 1, 2 * column - 1
        expected = points[first[0] : first[0] + 4, first[1] : first[1] + 4].mean()
        np.testing.assert_allclose(found[row, column], expected, atol=1e-6)
