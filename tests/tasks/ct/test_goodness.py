"""How well a reconstruction explains its scan, against integrals of what it renders."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nid_dist.export import load
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.measurements.radon import Radon
from nid_dist.model import Model
from nid_dist.tasks.ct.fitting import ScanFit, fit
from nid_dist.tasks.ct.goodness import Goodness
from nid_dist.tasks.ct.phantoms import named_phantom
from nid_dist.tasks.ct.sinograms import Scan


@pytest.fixture(scope="module")
def model(ct_run: Path) -> Model:
    return load(ct_run)


def fits(model: Model, geometry: Geometry, dose: Dose, axis: float = 0.0) -> dict[str, ScanFit]:
    """Of a scan whose axis is so many bins higher than the geometry says."""
    clean = named_phantom("phantom-00002", 0).sinogram(replace(geometry, offset=-axis * geometry.pitch))
    sinogram = dose.measure(clean, np.random.default_rng(0)).astype(np.float32)
    return next(iter(fit(model, [Scan(geometry, sinogram, dose)], None)))


@pytest.mark.parametrize("source", [None, 3.0], ids=["parallel", "fan"])
def test_chi_square_is_that_of_what_is_rendered(model: Model, source: float | None) -> None:
    geometry, dose = Geometry.even(8, 17, source), Dose(1e4)
    found = fits(model, geometry, dose)
    for label, each in found.items():
        goodness, measured = each.goodness, each.scan.sinogram
        if label == "detail":  # on its grid of pixels, by four lines in a bin
            fine = model.render(each.code, 34, 34)[0].double()
            again = Radon(geometry.finer(4), 41).of_image(fine).reshape(-1, 4).mean(1).numpy()
        else:
            again = Radon(geometry, 80)(lambda x, each=each: model.evaluate(each.code, x)[0])[:, 0].numpy()
        counts = 1e4 * np.exp(-2 * measured.astype(float))
        expected = np.mean((measured - again) ** 2 * counts * 4)
        assert goodness.per_ray == pytest.approx(expected, rel=0.05)
        assert goodness.noise == pytest.approx(np.sqrt(np.mean(1 / counts)) / 2, rel=1e-4)
        assert each.residual == pytest.approx(np.mean(goodness.residual.astype(float) ** 2), rel=0.05)
        assert goodness.stated == "dose"


def test_by_hand() -> None:
    found = Goodness(np.array([1.0, -2.0, 0.0]), np.array([1.0, 1.0, 2.0]), "dose")
    assert found.per_ray == pytest.approx(5 / 3) and found.noise == pytest.approx(2**0.5)
    assert Goodness(np.ones(2), np.zeros(2), "scan").per_ray is None
    assert torch.tensor(found.facts()["chi2_per_ray"]) > 1


def test_a_scan_that_is_not_explained_is_doubted(model: Model) -> None:
    """Whose axis is one bin of 17 off, half of which the inspection would say before."""
    geometry = Geometry.even(32, 17)
    good, bad = (fits(model, geometry, Dose(1e5), axis)["detail"] for axis in (0.0, 1.0))
    assert good.judgement.doubts == [] and bad.judgement.doubts
    assert bad.goodness.per_ray is not None and good.goodness.per_ray is not None
    assert "of which noise alone leaves 1" in bad.judgement.line
    assert bad.goodness.per_ray > 10 * good.goodness.per_ray
