import pytest
import torch
from scipy.interpolate import BSpline
from torch import nn

from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.dictionary.encodings import Splines, make_encoding, spline_side
from nid_dist.dictionary.trunk import Trunk
from nid_dist.planning.run import encoding_width


def test_against_scipy() -> None:
    """Six cells of width 1/3 on [-1, 1]; the second spline's centre is -1/2."""
    splines = Splines(1, 6)
    x = torch.linspace(-0.8, 0.8, 33)[:, None]
    spline = BSpline.basis_element(torch.arange(-2, 3).numpy() / 3 - 0.5, extrapolate=False)
    expected = torch.nan_to_num(torch.from_numpy(spline(x[:, 0].numpy()))).float()
    assert torch.allclose(splines(x)[:, 1] / splines.amplitude, expected, atol=1e-5)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_their_sum_is_constant_and_their_mean_square_one_half(dim: int) -> None:
    splines = Splines(dim, 9**dim)
    assert splines.side == 9 and splines.out_dim == 9**dim
    coords = 2 * torch.rand(50, dim) - 1
    assert torch.allclose(splines(coords).sum(1) / splines.amplitude, torch.ones(50), atol=1e-5)
    middle = splines(coordinate_grid((36,) * dim)).square().mean(0).reshape((9,) * dim)[(4,) * dim]
    assert float(middle) == pytest.approx(0.5, rel=0.01)


def test_a_layer_behind_them_in_both_ways() -> None:
    splines, layer = Splines(2, 36), nn.Linear(36, 5)
    coords = (2 * torch.rand(3, 7, 2) - 1).requires_grad_()
    dense, sparse = layer(splines(coords)), splines.through(coords, layer)
    assert torch.allclose(dense, sparse, atol=1e-4)
    target = torch.randn(3, 7, 5)
    gradients = [
        torch.autograd.grad((found * target).sum(), [coords, layer.weight]) for found in (dense, sparse)
    ]  # fmt: skip
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-3)


def test_in_a_trunk() -> None:
    encoding = Encoding(kind="spline", features=50)
    made = make_encoding(encoding, 2, torch.Generator())
    assert made.out_dim == encoding_width(encoding, 2) == spline_side(50, 2) ** 2 == 49
    for layers in (0, 1, 2):
        config = DictionaryConfig(encoding=encoding, width=6, shared_layers=layers)
        trunk = Trunk(config, 2, torch.Generator().manual_seed(0))
        coords = 2 * torch.rand(11, 2) - 1
        features = made(coords)
        for place, layer in enumerate(trunk.layers):
            features = layer(features)
            features = trunk.activation(features) if place < layers - 1 else features
        assert torch.allclose(trunk(coords), features, atol=1e-4)
