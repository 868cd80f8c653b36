import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from nid_dist.config.schema import Encoding as EncodingConfig
from nid_dist.dictionary.encodings import Cosines, RadialBasis, Sinusoids, make_encoding

KINDS = {
    "cosine": lambda m: 10,
    "identity": lambda m: m,
    "positional": lambda m: m * 9,
    "fourier": lambda m: 20,
    "rbf": lambda m: 10,
    "laplacian": lambda m: 20,
    "matern": lambda m: 20,
    "rational_quadratic": lambda m: 20,
    "gamma_exponential": lambda m: 20,
}


def make(kind: str, in_dim: int = 2, seed: int = 0, **options):
    config = EncodingConfig(kind=kind, **{"features": 10, "octaves": 4, **options})
    return make_encoding(config, in_dim, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("in_dim", [1, 2, 3])
@pytest.mark.parametrize("shape", [(), (5,), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind, shape, in_dim):
    encoding = make(kind, in_dim)
    assert encoding.out_dim == KINDS[kind](in_dim)
    assert encoding(torch.rand(*shape, in_dim)).shape == (*shape, encoding.out_dim)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_trained_and_everything_is_saved(kind):
    encoding = make(kind)
    assert not list(encoding.parameters())
    other = make(kind, seed=1)
    other.load_state_dict(encoding.state_dict())
    x = torch.rand(7, 2) * 2 - 1
    assert torch.equal(encoding(x), other(x))


@pytest.mark.parametrize("kind", ["fourier", "rbf", "laplacian", "matern", "rational_quadratic", "gamma_exponential"])
def test_draws_depend_on_the_generator_only(kind):
    x = torch.rand(7, 2)
    first = make(kind, seed=5)(x)
    torch.manual_seed(123)
    assert torch.equal(first, make(kind, seed=5)(x))
    assert not torch.equal(first, make(kind, seed=6)(x))


def test_positional_by_hand():
    # x = 1/2: sin, cos of pi/2 and of pi; x = 1/6: sin, cos of pi/6 and of pi/3.
    expected = [0.5, 1 / 6, 1, 0, 0.5, math.sqrt(3) / 2, 0, -1, math.sqrt(3) / 2, 0.5]
    found = make("positional", octaves=2)(torch.tensor([0.5, 1 / 6]))
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=0)


def test_sinusoids_by_hand():
    basis = torch.tensor([[math.pi, 0.0], [math.pi, math.pi / 2]])
    found = Sinusoids(basis)(torch.tensor([[0.5, 1.0], [0.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0, -1], [0, 1, 1, 0]]), atol=1e-6, rtol=0)


def test_radial_basis_by_hand():
    centres = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    found = RadialBasis(centres, 2.0)(torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(found, torch.tensor([math.exp(-0.5), math.exp(-2.5)]))


def test_fourier_basis_is_gaussian_without_two_pi():
    basis = make("fourier", features=20_000, scale=7.0).basis
    assert basis.std().item() == pytest.approx(7.0, rel=0.02)
    assert basis.mean().item() == pytest.approx(0.0, abs=0.15)


def test_inner_product_estimates_the_kernel():
    encoding = make("matern", features=20_000, scale=4.0, nu=0.5)
    features = encoding(torch.tensor([[0.1, 0.2], [0.1, 0.45]]))
    # Matern 1/2 is exp(-r / l), r = 0.25, 1 / l = 4; the standard error is below 0.007.
    assert (features[0] @ features[1]).item() / 20_000 == pytest.approx(math.exp(-1), abs=0.03)


def test_options_reach_the_kernel():
    x = torch.rand(3, 2)
    for kind, option in [("matern", "nu"), ("rational_quadratic", "alpha"), ("gamma_exponential", "gamma")]:
        assert not torch.equal(make(kind, **{option: 0.5})(x), make(kind, **{option: 1.9})(x))


def test_centres_fill_the_square():
    centres = make("rbf", features=64).centres
    assert centres.min() >= -1 and centres.max() <= 1
    # Uniform over the 16 quarter squares: independent draws would leave one of them empty in about one of four cases.
    cells = ((centres + 1) * 2).long().clamp_max(3)
    counts = torch.bincount(cells[:, 0] * 4 + cells[:, 1], minlength=16)
    assert counts.tolist() == [4] * 16


def test_radial_basis_is_twice_differentiable_at_a_centre():
    encoding = RadialBasis(torch.zeros(1, 2, dtype=torch.float64), 3.0)
    x = torch.zeros(2, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda v: encoding(v)[0], x)
    torch.testing.assert_close(hessian, -9 * torch.eye(2, dtype=torch.float64))


def test_phases_are_exact_under_autocast():
    encoding = make("fourier", scale=200.0)
    x = torch.rand(50, 2)
    expected = encoding(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = encoding(x)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("side", "dim"), [(16, 2), (8, 1), (5, 3)])
def test_cosines_are_the_dct_basis_on_a_lattice(side: int, dim: int) -> None:
    axis = -1 + (2 * torch.arange(side, dtype=torch.float64) + 1) / side
    coords = torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)
    waves = Cosines(dim, side**dim - 1)(coords)
    # scipy's orthonormal DCT-II of the unit impulses holds the basis; all of it but the constant must be found.
    impulses = np.eye(side**dim).reshape(-1, *[side] * dim)
    basis = dctn(impulses, type=2, norm="ortho", axes=tuple(range(1, dim + 1))).reshape(side**dim, -1)
    overlap = np.abs(waves.numpy().T @ basis) / side ** (dim / 2)
    np.testing.assert_allclose(np.sort(overlap, axis=1)[:, -1], 1.0, atol=1e-5)
    assert sorted(overlap.argmax(1)) == list(range(1, side**dim))


def test_cosines_have_unit_mean_square_between_pixels_too() -> None:
    axis = -1 + (2 * torch.arange(160, dtype=torch.float64) + 1) / 160
    waves = Cosines(2, 255)(torch.cartesian_prod(axis, axis))
    gram = waves.T @ waves / len(waves)
    torch.testing.assert_close(gram, torch.eye(255, dtype=torch.float64), atol=1e-5, rtol=0.0)


def test_cosines_come_lowest_frequency_first() -> None:
    orders = Cosines(2, 5).orders / (0.5 * np.pi)
    assert sorted(map(tuple, orders[:2].round().int().tolist())) == [(0, 1), (1, 0)]
    assert tuple(orders[2].round().int().tolist()) == (1, 1)
