"""Scan, prior and total variation as one problem: against dense oracles, and what it does with bad measurements."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from nid_dist.coding.method import Method
from nid_dist.coding.solvers.subspace import Subspace, subspace
from nid_dist.export import load
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose, white_noise
from nid_dist.model import Model
from nid_dist.tasks.ct.detail import Joint
from nid_dist.tasks.ct.phantoms import named_phantom
from nid_dist.tasks.ct.reconstruction import Reconstructor

DETAIL = Method("detail", 2)


@pytest.fixture(scope="module")
def model(ct_run: Path) -> Model:
    return load(ct_run)


def scanned(geometry: Geometry, index: int = 3) -> np.ndarray:
    return named_phantom(f"phantom-{index:05d}", 0).sinogram(geometry).astype(np.float32)


@pytest.mark.parametrize("source", [None, 3.0], ids=["parallel", "fan"])
def test_the_adjoint_is_exact(model: Model, source: float | None) -> None:
    joint = Joint(model, Geometry.even(5, 17, source))
    forward, backward = joint.matrices
    image, lines = torch.randn(1, forward.shape[1]), torch.randn(1, forward.shape[0])
    assert torch.isclose((forward(image) * lines).sum(), (image * backward(lines)).sum(), rtol=1e-4)
    assert not backward(lines)[0, ~joint.inside.flatten()].any()


def test_without_variation_it_is_the_gaussian_posterior_within_bounds(model: Model) -> None:
    joint, geometry = Joint(model, Geometry.even(6, 17)), Geometry.even(6, 17)
    measured, noise, beside = scanned(geometry), 0.05, 0.1
    found = joint.solve(
        torch.from_numpy(measured)[None],
        torch.full((1, geometry.size), noise),
        torch.tensor([beside]),
        model.coords.new_full((1, 17 * 17), 0.2),
        0.0,
    )
    # The same, dense, by another method for problems with bounds.
    space, inside = _space(model), joint.inside.flatten().numpy()
    mean, basis = space.mean[:, 0].double().numpy(), space.basis[:, 0].double().numpy()
    means = np.stack([joint.means(e.reshape(34, 34, 1))[:, 0].numpy() for e in torch.eye(34 * 34)], 1)[:, inside]
    used = means.any(1)
    precision = np.linalg.inv(basis[used] @ basis[used].T + beside**2 * np.eye(used.sum()))
    noises = np.hypot(noise, joint.pixel_error)
    forward, means = joint.matrices[1](torch.eye(len(measured))).double().numpy()[:, inside], means[used].astype(float)

    def loss(f: np.ndarray) -> tuple[float, np.ndarray]:
        error, apart = (forward @ f - measured) / noises, means @ f - mean[used]
        gradient = forward.T @ error / noises + means.T @ (precision @ apart)
        return float(error @ error + apart @ precision @ apart) / 2, gradient

    oracle = minimize(loss, np.full(inside.sum(), 0.2), jac=True, bounds=[(0, 1)] * int(inside.sum()))
    ours = found.values.flatten()[inside].double().numpy()
    before = loss(np.full(inside.sum(), 0.2))[0]
    assert loss(ours)[0] - oracle.fun < 5e-3 * (before - oracle.fun), (loss(ours)[0], oracle.fun, before)
    assert np.abs(means @ ours - means @ oracle.x).mean() < 0.02


def _space(model: Model) -> Subspace:
    prior = model.prior
    assert prior is not None
    return subspace(model.dictionary, prior, model.coords)


def test_it_is_nearer_than_the_prior_alone_and_says_what_is_unlike(model: Model) -> None:
    geometry = Geometry.even(32, 17)
    whole = named_phantom("phantom-00003", 0).image(17)
    reconstructor = Reconstructor(model, geometry, Dose())
    fits = reconstructor.solve(scanned(geometry)[None], [DETAIL, Method("map", 2)])
    errors = {label: np.square(reconstructor.render(fit)[0, ..., 0] - whole).mean() for label, fit in fits.items()}
    assert errors["detail2"] < 0.8 * errors["map2"]
    code = fits["detail2"].code
    assert code.detail is not None and code.values.any()
    # A disc of one value, as large as it gets, is no head: the detail alone says it.
    lengths = 2 * (1 - geometry.lines[1].square()).clamp_min(0).sqrt().numpy()
    (fit,) = reconstructor.solve((0.9 * lengths[None]).astype(np.float32), [DETAIL]).values()
    assert not fit.code.values.any() and not fit.code.bias.any()
    image = reconstructor.render(fit)[0, ..., 0]
    assert abs(image[5:12, 5:12] - 0.9).max() < 0.1


def test_no_model_error_makes_a_scan_look_like_the_prior(model: Model) -> None:
    geometry = Geometry.even(16, 17)
    lengths = 2 * (1 - geometry.lines[1].square()).clamp_min(0).sqrt().numpy()
    (fit,) = (
        Reconstructor(model, geometry, Dose(), 0.001).solve((0.9 * lengths[None]).astype(np.float32), [DETAIL]).values()
    )
    assert not fit.code.values.any()


def test_bad_measurements_have_bounded_steps(model: Model) -> None:
    geometry = Geometry.even(4, 17)
    contradictory = Geometry(np.zeros(4), 17)  # one view, four times
    for place, measured in (
        (geometry, np.zeros(geometry.size)),
        (geometry, np.full(geometry.size, 0.3)),
        (contradictory, np.concatenate([scanned(Geometry.even(1, 17), i) for i in range(4)])),
    ):
        reconstructor = Reconstructor(model, place, Dose())
        (fit,) = reconstructor.solve(measured[None].astype(np.float32), [DETAIL]).values()
        image = reconstructor.render(fit)
        assert np.isfinite(image).all() and np.isfinite(fit.residual.item())
        assert fit.log[0]["steps"] <= 400


def test_a_variation_of_its_own(model: Model) -> None:
    geometry = Geometry.even(8, 17)
    reconstructor = Reconstructor(model, geometry, Dose(1e3, 2.0))
    images = []
    for variation in (0.5, 50.0):
        (fit,) = reconstructor.solve(scanned(geometry)[None], [replace(DETAIL, variation=variation)]).values()
        images.append(reconstructor.render(fit)[0, ..., 0])
    steps = [np.abs(np.diff(image, axis=0)).sum() for image in images]
    assert steps[1] < steps[0]


def test_a_sinogram_says_its_noise() -> None:
    geometry = Geometry.even(32, 129)
    clean = scanned(geometry).reshape(32, 129)
    noisy = clean + 0.02 * np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    assert white_noise(clean) < 0.003 and abs(white_noise(noisy) - 0.02) < 0.002
    assert white_noise(clean[:, :3]) == 0
