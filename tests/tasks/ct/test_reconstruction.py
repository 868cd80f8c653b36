"""Codes from scans alone: what they are, and that nothing of the image has a way into them."""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nid_dist.coding.method import Method
from nid_dist.export import load
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.measurements.radon import Radon
from nid_dist.model import Model
from nid_dist.tasks.ct.phantoms import named_phantom
from nid_dist.tasks.ct.reconstruction import Reconstructor, Remembered
from nid_dist.tasks.ct.scans import scan_geometry

METHODS = [Method("init"), Method("ridge", ridge=1e-3), Method("omp", 2, 1e-3), Method("fista"), Method("map", 2)]


@pytest.fixture(scope="module")
def model(ct_run: Path) -> Model:
    return load(ct_run)


def scans(geometry: Geometry, count: int = 3) -> np.ndarray:
    phantoms = [named_phantom(f"phantom-{index:05d}", 0) for index in range(count)]
    return np.stack([phantom.sinogram(geometry) for phantom in phantoms]).astype(np.float32)


@pytest.mark.parametrize("source", [None, 3.0], ids=["parallel", "fan"])
def test_all_methods_from_both_beams(model: Model, source: float | None) -> None:
    geometry = Geometry.even(8, 17, source)
    reconstructor = Reconstructor(model, geometry, Dose())
    fits = reconstructor.solve(scans(geometry), METHODS)
    whole = np.stack([named_phantom(f"phantom-{index:05d}", 0).image(17) for index in range(3)])
    for label, fit in fits.items():
        images = reconstructor.render(fit)
        assert images.shape == (3, 17, 17, 1) and images.min() >= 0 and images.max() <= 1
        assert int((fit.code.values != 0).sum(1).max()) <= model.support
        if label != "init":
            assert np.sqrt(np.square(images[..., 0] - whole).mean()) < 0.15
    assert reconstructor.render(fits["map2"], 40).shape == (3, 40, 40, 1)


def test_the_residual_is_that_of_the_scan(model: Model) -> None:
    geometry = Geometry.even(8, 17)
    reconstructor = Reconstructor(model, geometry, Dose())
    sinograms = scans(geometry)
    for fit in reconstructor.solve(sinograms, METHODS).values():
        code = fit.code
        again = Radon(geometry, 80)(lambda x, code=code: model.dictionary(code, x)[..., 0].t()).t()
        error = (again - torch.from_numpy(sinograms)).square().mean(1)
        assert torch.allclose(fit.residual, error, rtol=0.02, atol=1e-5)


def test_nothing_of_the_image_reaches_gate_or_solver(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two phantoms of equal scans give equal codes, though their images differ; and none is asked for its image.

    With two views, along the rows and along the columns, an image and its transposed checkers have the same scan.
    """
    monkeypatch.setattr("nid_dist.tasks.ct.phantoms.Phantom.image", None)
    geometry = Geometry.even(2, 17)
    first = np.zeros((17, 17))
    first[4, 4] = first[12, 12] = 1.0
    second = first[::-1].copy()
    assert not np.array_equal(first, second)
    sinograms = [
        np.concatenate([image.sum(0), image[::-1].sum(1)]).astype(np.float32)[None] for image in (first, second)
    ]
    assert np.array_equal(*sinograms)
    one, other = (Reconstructor(model, geometry, Dose()).solve(sinogram, METHODS) for sinogram in sinograms)
    for label in one:
        assert torch.equal(one[label].code.values, other[label].code.values)
    # And there is no way to hand an image in: a scan, its geometry and its dose are all that can be said.
    assert list(inspect.signature(Reconstructor).parameters) == ["model", "geometry", "dose", "model_error"]
    assert list(inspect.signature(Reconstructor.solve).parameters) == ["self", "sinograms", "methods"]


def test_the_gate_sees_back_projections(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = Geometry.even(4, 17)
    reconstructor, sinograms = Reconstructor(model, geometry, Dose()), scans(geometry)
    shown: list[torch.Tensor] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda values: shown.append(values) or encode(values))
    reconstructor.solve(sinograms, [Method("init")])
    assert torch.equal(shown[0], reconstructor.gate_input(sinograms))
    seen = reconstructor.back_projection(sinograms).clip(0, 1).reshape(3, -1, 1)
    assert np.array_equal(shown[0].numpy(), seen)


def test_noise_of_dose_and_model(model: Model) -> None:
    geometry = scan_geometry(model.config.tomography, 17, 4)
    sinograms = np.full((1, geometry.size), 0.5, dtype=np.float32)
    reconstructor = Reconstructor(model, geometry, Dose(1e3, 2.0), model_error=0.03)
    expected = np.sqrt(np.exp(1.0) / 1e3 / 4 + 0.03**2)
    assert reconstructor.noise(sinograms) == pytest.approx(expected, rel=1e-5)


def test_remembered_features_change_nothing(model: Model) -> None:
    geometry = Geometry.even(4, 17)
    radon = Radon(geometry, 24)
    remembered, trunk = Remembered(radon), model.dictionary.trunk
    remembered.remember(trunk, 500)
    (part, kept), *rest = list(remembered.chunks(trunk, 7))
    assert (part, rest) == (slice(0, 68), [])
    assert torch.allclose(kept, radon(trunk), atol=1e-6)
    other = torch.cat([values for _, values in remembered.chunks(lambda x: x[:, :1], 100)])
    assert torch.allclose(other, radon(lambda x: x[:, :1]))
    fits = [Reconstructor(model, geometry, Dose()).solve(scans(geometry), [replace(METHODS[2])]) for _ in range(2)]
    assert torch.equal(*(fit["omp2"].code.values for fit in fits))
