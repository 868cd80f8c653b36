"""Detectors beside the axis, arcs, and scikit-image's axis, against lines by hand and pixels by the formulas."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from skimage.transform import radon as skimage_radon

from nid_dist.evaluation.image_metrics import psnr
from nid_dist.measurements.back_projection import BackProjection, arcs
from nid_dist.measurements.geometry import Geometry, shadow
from nid_dist.measurements.radon import Radon
from nid_dist.tasks.ct.classical import Classical, image_matrix
from nid_dist.tasks.ct.phantoms import Phantom, named_phantom, shepp_logan

TURN = 2 * math.pi
AWKWARD: dict[str, Any] = {
    "offset": {"offset": 0.07},
    "flat": {"source": 2.5, "offset": -0.06},
    "arc": {"source": 2.5, "detector": "arc", "offset": 0.05},
    "centre": {"offset": -0.03, "centre": (0.03, 0.02)},
}


def awkward(name: str, views: int = 6, bins: int = 12) -> Geometry:
    given = AWKWARD[name]
    source = given.get("source")
    turn = math.pi if source is None else TURN
    return Geometry(np.arange(views) * turn / views, bins, 2 * shadow(source, given.get("detector", "flat")), **given)


def rays(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """A point (x, y) on each line, [V, B, 2], and its direction: from where source and detector stand."""
    points, directions = [], []
    for angle in geometry.angles:
        across, along = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        for place in np.arange(geometry.bins):
            u = (place - geometry.axis) * geometry.width / geometry.bins
            if geometry.source is None:
                row, column = geometry.centre
                points.append(np.array([column, -row]) + u * across)
                directions.append(along)
                continue
            source = -geometry.source * along
            if geometry.detector == "flat":
                towards = u * across - source
            else:
                turned = u / geometry.source
                towards = math.sin(turned) * across + math.cos(turned) * along
            points.append(source)
            directions.append(towards / np.linalg.norm(towards))
    shape = (geometry.views, geometry.bins, 2)
    return np.array(points).reshape(shape), np.array(directions).reshape(shape)


@pytest.mark.parametrize("name", AWKWARD)
def test_lines_are_those_from_source_to_bin(name: str) -> None:
    geometry = awkward(name)
    points, directions = rays(geometry)
    angles, offsets = (line.numpy().reshape(6, 12) for line in geometry.lines)
    normal = np.stack([np.cos(angles), np.sin(angles)], -1)
    np.testing.assert_allclose((points * normal).sum(-1), offsets, atol=1e-12)
    np.testing.assert_allclose((directions * normal).sum(-1), 0, atol=1e-12)
    assert geometry.positions[0] - geometry.pitch / 2 == pytest.approx(geometry.offset - geometry.width / 2)
    fine = geometry.finer(3)
    assert fine.offset == geometry.offset and fine.detector == geometry.detector and fine.centre == geometry.centre
    assert np.allclose(fine.positions.reshape(12, 3).mean(1), geometry.positions)
    assert geometry.alike(awkward(name)) and not geometry.alike(Geometry.even(6, 12, geometry.source))


@pytest.mark.parametrize("name", AWKWARD)
def test_integrals_against_chords_of_an_ellipse(name: str) -> None:
    """Where a ray enters and leaves an ellipse, by the quadratic's roots; and the operator of an image of it."""
    geometry = awkward(name)
    phantom = Phantom(np.array([[0.7, 0.5, 0.3, 0.1, -0.2, 0.4]]))
    points, directions = rays(geometry)
    turn = np.array([[math.cos(0.4), math.sin(0.4)], [-math.sin(0.4), math.cos(0.4)]])
    start, step = ((x @ turn.T) / [0.5, 0.3] for x in (points - [0.1, -0.2], directions))
    a, b, c = (step**2).sum(-1), (start * step).sum(-1), (start**2).sum(-1) - 1
    chords = 0.7 * 2 * np.sqrt(np.clip(b**2 - a * c, 0, None)) / a
    np.testing.assert_allclose(phantom.integrals(geometry).reshape(6, 12), chords, atol=1e-12)
    image = phantom.image(81)
    found = Radon(geometry, 60).of_image(torch.from_numpy(image)[..., None]).reshape(6, 12).numpy()
    assert np.abs(found - chords).mean() < 0.01
    dense = phantom.sinogram(geometry.finer(64), 1).reshape(6, 12, 64).mean(2)
    np.testing.assert_allclose(phantom.sinogram(geometry, 64).reshape(6, 12), dense, atol=2e-4)


@pytest.mark.parametrize("name", AWKWARD)
def test_adjoint_and_matrix(name: str) -> None:
    geometry = awkward(name)
    radon = Radon(geometry, 20)
    image, measured = torch.randn(9, 11, 2).double(), torch.randn(radon.size, 2).double()
    forward, backward = radon.of_image(image), radon.adjoint(measured, (9, 11))
    assert float((forward * measured).sum()) == pytest.approx(float((image * backward).sum()), rel=1e-6, abs=1e-6)
    square = torch.randn(9, 9, 1).double()
    matrix = image_matrix(geometry, 9, lines=1)
    dense = Radon(geometry, 16).of_image(square)[:, 0].numpy()
    np.testing.assert_allclose(matrix @ square.flatten().numpy(), dense, atol=1e-6)


@pytest.mark.parametrize("name", AWKWARD)
def test_back_projection_as_the_formula_says(name: str) -> None:
    """Kak and Slaney's sums pixel by pixel: 3.3 of parallel beams, 3.4.2 of equal bins, 3.4.1 of equal angles."""
    geometry, side = awkward(name, 7, 12), 9
    sinogram = np.random.default_rng(0).normal(size=(7, 12))
    pitch, source = geometry.width / 12, geometry.source
    places = (np.arange(12) - geometry.axis) * pitch
    arc = geometry.detector == "arc"
    turned = np.zeros(12) if source is None else places / source if arc else np.arctan(places / source)
    filtered = np.zeros((7, 12))
    for out in range(12):
        for into in range(12):
            lag = out - into
            tap = 0.25 if lag == 0 else -1 / (math.pi * lag) ** 2 if lag % 2 else 0.0
            if arc and source is not None and lag:
                tap *= (lag * pitch / source / math.sin(lag * pitch / source)) ** 2
            filtered[:, out] += tap / pitch * sinogram[:, into] * math.cos(turned[into])
    expected = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            x, y = (2 * column + 1) / side - 1, 1 - (2 * row + 1) / side
            if math.hypot(x, y) > 1:
                continue
            x, y = x - geometry.centre[1], y + geometry.centre[0]
            for view, angle in enumerate(geometry.angles):
                across, weight = x * math.cos(angle) + y * math.sin(angle), 1.0
                if source is not None:
                    along = source - x * math.sin(angle) + y * math.cos(angle)
                    weight = source**2 / (along**2 + (across**2 if arc else 0))
                    across = source * (math.atan(across / along) if arc else across / along)
                place = across / pitch + geometry.axis
                padded = np.concatenate([[0], filtered[view], [0]])
                value = np.interp(place + 1, np.arange(14), padded, left=0, right=0)
                expected[row, column] += arcs(geometry)[view] * weight * value
    found = BackProjection(geometry, side)(torch.from_numpy(sinogram).reshape(1, -1))
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("name", AWKWARD)
def test_the_standard_phantom_comes_back(name: str) -> None:
    geometry = awkward(name, 90, 65)
    found = BackProjection(geometry, 65)(torch.from_numpy(shepp_logan().sinogram(geometry))[None])[0].numpy()
    assert psnr(found, shepp_logan().image(65)) > 24.5
    wrong = Geometry(geometry.angles, 65, 2 * shadow(geometry.source), geometry.source)
    spoilt = BackProjection(wrong, 65)(torch.from_numpy(shepp_logan().sinogram(geometry))[None])[0].numpy()
    assert psnr(found, shepp_logan().image(65)) > psnr(spoilt, shepp_logan().image(65)) + 0.5


@pytest.mark.parametrize(("side", "bins"), [(32, 32), (33, 33), (32, 46), (33, 47)])
def test_what_scikit_image_measures(side: int, bins: int) -> None:
    """Its own `radon` of a smooth blob off the middle, which lies at the same place in our axes."""
    axis = (np.arange(side) + 0.5) * 2 / side - 1
    image = np.exp(-((axis[None] - 0.3) ** 2 + (axis[:, None] + 0.2) ** 2) / (2 * 0.15**2))
    image *= np.hypot(axis[:, None], axis[None]) < 0.9
    theta = np.arange(0, 180, 15.0)
    theirs = skimage_radon(image, theta, circle=bins == side)
    assert theirs.shape == (bins, 12)
    geometry = Geometry.skimage(np.deg2rad(theta), bins, side)
    assert geometry.axis == pytest.approx(bins // 2)
    ours = Radon(geometry, 200).of_image(torch.from_numpy(image)[..., None]).reshape(12, bins).numpy() * side / 2
    assert np.abs(ours - theirs.T).max() < 0.012 * theirs.max()
    assert geometry.covers


def test_classical_methods_take_scikit_image_s_own_even_sides() -> None:
    phantom, theta = named_phantom("phantom-00003", 0), np.arange(48) * 180 / 48
    whole = phantom.image(32) * (np.hypot(*np.mgrid[-16:16, -16:16]) <= 16)
    measured = skimage_radon(whole, theta).T.reshape(-1) / 16
    known = Classical(Geometry.skimage(np.deg2rad(theta), 32), 32)
    assert psnr(known.fbp(measured), whole) > 26 and psnr(known.sart(measured, 10), whole) > 23
    assert psnr(known.total_variation(measured, 1e-3, 60), whole) > 30


def test_covers_beside_the_axis() -> None:
    assert Geometry.even(4, 20).beside == 0
    few = Geometry(np.zeros(1), 20, 2.0, None, 0.05)
    assert few.beside == pytest.approx(0.05) and few.covers
    assert not Geometry(np.zeros(1), 20, 2.0, None, -0.3).covers
    half = Geometry(np.zeros(1), 20, 1.4 * shadow(3.0), 3.0, 0.6 * shadow(3.0))
    assert not half.covers
    assert Geometry(np.zeros(1), 20, 2 * math.asin(1 / 3) * 3, 3.0, 0.0, "arc").covers


@pytest.mark.parametrize(
    "given", [{"detector": "arc"}, {"source": 3.0, "centre": (0.1, 0.0)}], ids=["arc of parallel", "fan off the middle"]
)
def test_refuses(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="fan"):
        Geometry(np.zeros(1), 4, **given)
