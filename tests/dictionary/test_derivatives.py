import pytest
import torch
from torch import nn

from nid_dist.dictionary.derivatives import gradient, laplacian

# f = (x^2 y, sin(2x) e^y, x + 3): closed forms of gradient and Laplacian below.


def function(x: torch.Tensor) -> torch.Tensor:
    a, b = x.unbind(-1)
    return torch.stack([a**2 * b, torch.sin(2 * a) * torch.exp(b), a + 3], -1)


def points(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("shape", [(5,), (2, 4), (2, 3, 4), (0,)])
def test_closed_forms(shape):
    x = points(*shape)
    a, b = x.unbind(-1)
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    rows = [[2 * a * b, a**2], [2 * torch.cos(2 * a) * b.exp(), torch.sin(2 * a) * b.exp()], [one, zero]]
    expected = torch.stack([torch.stack(row, -1) for row in rows], -2)
    torch.testing.assert_close(gradient(function, x), expected)
    second = torch.stack([2 * b, -3 * torch.sin(2 * a) * b.exp(), zero], -1)
    torch.testing.assert_close(laplacian(function, x), second)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_network_against_finite_differences(dim):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(dim, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    x = torch.rand(6, dim, dtype=torch.float64)
    step = 1e-4
    slopes, curvature = [], torch.zeros(6, 2, dtype=torch.float64)
    with torch.no_grad():
        for axis in range(dim):
            shift = step * torch.eye(dim, dtype=torch.float64)[axis]
            slopes.append((net(x + shift) - net(x - shift)) / (2 * step))
            curvature += (net(x + shift) - 2 * net(x) + net(x - shift)) / step**2
    torch.testing.assert_close(gradient(net, x), torch.stack(slopes, -1), atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(laplacian(net, x), curvature, atol=1e-6, rtol=1e-5)


def test_constant_and_linear_functions():
    x = points(4)
    torch.testing.assert_close(laplacian(lambda v: v @ torch.ones(2, 1).double(), x), torch.zeros(4, 1).double())
    constant = torch.ones(4, 3).double()
    torch.testing.assert_close(gradient(lambda v: constant, x), torch.zeros(4, 3, 2).double())
    torch.testing.assert_close(laplacian(lambda v: constant, x), torch.zeros(4, 3).double())
    # A graph exists, but does not lead to x.
    leaf = constant.clone().requires_grad_()
    torch.testing.assert_close(gradient(lambda v: leaf * 2, x), torch.zeros(4, 3, 2).double())


def test_create_graph_reaches_parameters():
    # f = w x^2: df/dx = 2 w x, the Laplacian 2 w; their sums' derivatives in w are 2 sum(x) and 2 C.
    weight = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.5], [2.0]], dtype=torch.float64)

    def f(v: torch.Tensor) -> torch.Tensor:
        return weight * v**2

    (by_gradient,) = torch.autograd.grad(gradient(f, x, create_graph=True).sum(), weight)
    (by_laplacian,) = torch.autograd.grad(laplacian(f, x, create_graph=True).sum(), weight)
    assert by_gradient.item() == pytest.approx(5.0)
    assert by_laplacian.item() == pytest.approx(4.0)


def test_create_graph_reaches_the_coordinates():
    x = torch.tensor([[0.5], [2.0]], dtype=torch.float64, requires_grad=True)
    slope = gradient(lambda v: v**3, x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(second, 6 * x.detach())


def test_without_graph_nothing_is_attached():
    x = points(3)
    with torch.no_grad():
        assert not gradient(function, x).requires_grad
        assert not laplacian(function, x).requires_grad
    assert not x.requires_grad


def test_coordinates_shared_by_signals_are_refused():
    with pytest.raises(ValueError, match="expand shared coordinates"):
        gradient(lambda v: torch.stack([v, v]), points(3))
