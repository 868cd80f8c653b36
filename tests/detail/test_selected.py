"""Splines chosen from a family: their values against SciPy's B-splines, anywhere; and how they are stored."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.detail.family import AxisFamily, colour_directions
from nid_dist.detail.selected import SelectedSplines


def oracle(axis: AxisFamily, number: int, coords: np.ndarray) -> np.ndarray:
    """One function of an axis, from its kind, width and centre, by knots."""
    group = [group for group in axis.groups if group.first <= number][-1]
    centre = (number - group.first) * group.every
    pixels = (coords + 1) * axis.pixels / 2 - 0.5
    reach = {"hat": 1, "bump": 2, "edge": 2}[group.kind]
    spline = BSpline.basis_element(centre + group.width * np.arange(-reach, reach + 1.0), extrapolate=False)
    if group.kind == "edge":
        return np.nan_to_num(group.width * spline.derivative()(pixels))
    return np.nan_to_num(spline(pixels))


@pytest.mark.parametrize("pixels", [1, 5, 32])
def test_functions_of_an_axis_are_b_splines_and_differences_of_them(pixels: int) -> None:
    axis = AxisFamily(pixels)
    coords = torch.linspace(-0.999, 0.998, 37, dtype=torch.float64)
    found = axis.evaluate(coords, torch.arange(axis.size))
    expected = np.stack([oracle(axis, number, coords.numpy()) for number in range(axis.size)])
    assert np.abs(found.numpy() - expected).max() < 1e-12
    centres = axis.centres(torch.arange(axis.size))
    assert int(centres.min()) == 0 and int(centres.max()) == pixels - 1
    if pixels == 32:
        widths = {kind: [group.width for group in axis.groups if group.kind == kind] for kind in ("bump", "edge")}
        assert widths == {"bump": [1, 2, 4, 8], "edge": [1, 2, 4]}
        assert [group.every for group in axis.groups if group.kind == "bump"] == [1, 1, 1, 2]


def test_directions_of_colour_are_orthonormal() -> None:
    for channels in (1, 2, 3, 4):
        directions = colour_directions(channels)
        assert torch.allclose(directions @ directions.t(), torch.eye(channels), atol=1e-6)
    assert torch.allclose(colour_directions(3)[0], torch.full((3,), 3**-0.5))


def chosen(channels: int = 3, count: int = 12) -> SelectedSplines:
    generator = torch.Generator().manual_seed(channels)
    most = (channels, AxisFamily(9).size, AxisFamily(14).size)
    members = torch.stack([torch.randint(each, (count,), generator=generator) for each in most], 1).unique(dim=0)
    return SelectedSplines((9, 14), channels, members, torch.randn(len(members), generator=generator))


@pytest.mark.parametrize("where", ["grid", "finer grid", "scattered"])
def test_values_anywhere(where: str) -> None:
    detail = chosen()
    coords = {
        "grid": coordinate_grid((9, 14)),
        "finer grid": coordinate_grid((20, 27)),
        "scattered": torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1,
    }[where]
    expected = np.zeros((len(coords), 3))
    colours = colour_directions(3).numpy()
    for (colour, row, column), value in zip(detail.members.tolist(), detail.values.tolist(), strict=True):
        parts = [
            oracle(AxisFamily(pixels), number, coords[:, axis].double().numpy())
            for axis, (pixels, number) in enumerate([(9, row), (14, column)])
        ]
        expected += value * (parts[0] * parts[1])[:, None] * colours[colour]
    assert np.abs(detail(coords)[0].numpy() - expected).max() < 1e-4
    assert torch.equal(detail(coords), detail(coords[None]))


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_stored_by_its_members_numbers(channels: int) -> None:
    detail = chosen(channels)
    places, coefficients = detail.sparse()
    assert places.dtype == torch.int32 and len(places) == detail.numbers == len(coefficients)
    every = list(product(range(channels), range(AxisFamily(9).size), range(AxisFamily(14).size)))
    assert sorted(map(tuple, detail.members.tolist())) == [every[place] for place in places.tolist()]
    loaded = SelectedSplines.of(detail.facts(), places, coefficients)
    coords = coordinate_grid((9, 14))
    assert torch.allclose(loaded(coords), detail(coords), atol=1e-6)
    for facts, wrong in (
        (detail.facts() | {"pixels": [0, 14]}, places),
        (detail.facts(), places[1:]),
        (detail.facts(), places + 10**6),
    ):
        with pytest.raises(ValueError, match="detail"):
            SelectedSplines.of(facts, wrong, coefficients)
