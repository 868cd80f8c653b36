"""The pursuit of splines: what was planted is found, and all that is chosen is fitted together with the trend."""

import pytest
import torch

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.detail.pursuit import pursue
from nid_dist.detail.selected import SelectedSplines

SHAPE = (24, 18)


def shown(detail: SelectedSplines, shape: tuple[int, int] = SHAPE) -> torch.Tensor:
    return detail(coordinate_grid(shape))[0].view(*shape, detail.channels)


def textured(shape: tuple[int, int] = SHAPE, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(*shape, channels, generator=generator)


def trend(count: int = 4) -> torch.Tensor:
    columns = torch.randn(count, SHAPE[0] * SHAPE[1] * 3, generator=torch.Generator().manual_seed(2))
    return torch.linalg.qr(columns.t()).Q.t().reshape(count, *SHAPE, 3)


def test_what_was_planted_is_found() -> None:
    # Hats, bumps and edges of different widths, far from each other.
    members = torch.tensor([[0, 3, 4], [0, 24 + 20, 18 + 14], [1, 4 * 24 - 12, 9], [2, 60, 60]])
    planted = SelectedSplines(SHAPE, 3, members, torch.tensor([1.0, -2.0, 1.5, 0.7]))
    found = pursue(shown(planted), 40)
    assert found.detail.numbers <= 12 and float(found.left_over.abs().max()) < 1e-4
    assert {tuple(each) for each in members.tolist()} <= {tuple(each) for each in found.detail.members.tolist()}


@pytest.mark.parametrize("with_trend", [False, True])
def test_the_fit_is_that_of_all_at_once(with_trend: bool) -> None:
    picture = textured()
    found = pursue(picture, 60, trend() if with_trend else None)
    one = torch.eye(60)
    columns = [shown(SelectedSplines(SHAPE, 3, found.detail.members, row)).flatten() for row in one]
    if with_trend:
        columns += list(trend().flatten(1))
    matrix = torch.stack(columns, 1).double()
    solution = torch.linalg.lstsq(matrix, picture.flatten().double()[:, None]).solution[:, 0]
    left_over = picture.flatten().double() - matrix @ solution
    assert float((found.left_over.flatten() - left_over).abs().max()) < 1e-3
    assert float(found.left_over.norm()) == pytest.approx(float(left_over.norm()), rel=1e-6)
    assert torch.allclose(found.detail.values.double(), solution[:60], atol=1e-2)
    assert found.residual < 1e-3 and found.detail.numbers == 60


def test_more_of_them_leave_less_over() -> None:
    errors = [float(pursue(textured(), count).left_over.norm()) for count in (5, 40, 300)]
    assert errors == sorted(errors, reverse=True) and errors[2] < 0.5 * errors[0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_few_pixels(shape: tuple[int, int], channels: int) -> None:
    picture = textured(shape, channels)
    found = pursue(picture, picture.numel())
    assert found.detail.numbers <= picture.numel()
    assert torch.allclose(shown(found.detail, shape) + found.left_over, picture, atol=1e-4)
    assert float(found.left_over.norm()) < 0.1 * float(picture.norm())


def test_nothing_is_chosen_where_nothing_is_left_over() -> None:
    assert pursue(torch.zeros(*SHAPE, 3), 20).detail.numbers == 0
    flat = torch.ones(1, *SHAPE, 3) / (SHAPE[0] * SHAPE[1] * 3) ** 0.5
    assert pursue(torch.full((*SHAPE, 3), 0.3), 20, flat).detail.numbers == 0
