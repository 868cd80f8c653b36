"""An image as one field: its energy's least against a dense solution, and its colours."""

import numpy as np
import pytest
import torch

from nid_dist.coding.solvers.subspace import Subspace
from nid_dist.tasks.images import field
from nid_dist.tasks.images.field import Colours, complete, with_colours

SIDE = 4


def space(channels: int = 1) -> Subspace:
    generator = torch.Generator().manual_seed(0)
    basis = 0.3 * torch.randn(SIDE**2, channels, 6, generator=generator)
    return Subspace(
        0.5 + 0.1 * torch.randn(SIDE**2, channels, generator=generator), basis, torch.full((SIDE**2,), 0.02)
    )


def test_unknown_pixels_are_where_the_energy_is_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field, "_ITERATIONS", 500)
    monkeypatch.setattr(field, "_TOLERANCE", 1e-7)
    image = torch.rand(7, 6, 1, generator=torch.Generator().manual_seed(1))
    known = torch.ones(7, 6, dtype=torch.bool)
    known[1:5, 1:4] = False
    known[6, 5] = False
    prior, colours = space(), Colours.of(image[known])
    found = complete(prior, image, known, colours)
    assert torch.equal(found[known], image[known])

    free = field._FREE * colours.covariance.sqrt().item()
    basis = np.concatenate([prior.basis[:, 0].numpy(), np.full((16, 1), free)], 1)
    precision = np.linalg.inv(basis @ basis.T + 0.02 * np.eye(16))
    matrix, right = np.zeros((42, 42)), np.zeros(42)
    for top in range(4):
        for left in range(3):
            places = [6 * (top + r) + left + c for r in range(4) for c in range(4)]
            matrix[np.ix_(places, places)] += precision
            right[places] += precision @ prior.mean[:, 0].numpy()
    lost = ~known.flatten().numpy()
    values = image.flatten().numpy()
    expected = np.linalg.solve(matrix[np.ix_(lost, lost)], right[lost] - matrix[np.ix_(lost, ~lost)] @ values[~lost])
    assert found.flatten().numpy()[lost] == pytest.approx(expected, abs=1e-3)


def test_the_prior_takes_the_palette_of_an_image() -> None:
    pixels = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[0.5, 0.1, 0.0], [0.2, 0.3, 0.1], [0.0, 0.0, 0.2]]
    )
    colours = Colours.of(pixels)
    turned = Colours.of_space(with_colours(space(3), colours))
    assert turned.mean.tolist() == pytest.approx(pixels.mean(0).tolist(), abs=1e-5)
    expected = np.cov(pixels.numpy().T, bias=True)
    assert turned.covariance.numpy() == pytest.approx(expected, abs=1e-4)


def test_grey_stays_grey() -> None:
    grey = torch.rand(12, 12, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 3).contiguous()
    known = torch.ones(12, 12, dtype=torch.bool)
    known[2:9, 3:10] = False
    colours = Colours.of(grey[known])
    filled = complete(with_colours(space(3), colours), grey, known, colours)
    assert (filled - filled.mean(2, keepdim=True)).abs().max() < 1e-3
