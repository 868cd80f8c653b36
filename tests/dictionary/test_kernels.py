import math

import pytest
import scipy.special
import torch

from nid_dist.dictionary.kernels import frequencies

DRAWS = 40_000


def draw(
    kind: str, count: int = DRAWS, dim: int = 2, scale: float = 1.0, seed: int = 0, **options: float
) -> torch.Tensor:
    return frequencies(kind, count, dim, scale, generator=torch.Generator().manual_seed(seed), **options)


def matern(r: float, nu: float) -> float:
    s = math.sqrt(2 * nu) * r
    return 2 ** (1 - nu) / math.gamma(nu) * s**nu * float(scipy.special.kv(nu, s))


# Kernels as functions of the offset x - y, with length scale 1.
CASES = [
    ("gaussian", {}, lambda d: math.exp(-(math.hypot(*d) ** 2) / 2)),
    ("laplacian", {}, lambda d: math.exp(-sum(abs(v) for v in d))),
    ("matern", {"nu": 0.5}, lambda d: math.exp(-math.hypot(*d))),
    ("matern", {"nu": 0.2}, lambda d: matern(math.hypot(*d), 0.2)),
    ("matern", {"nu": 1.5}, lambda d: (1 + math.sqrt(3) * math.hypot(*d)) * math.exp(-math.sqrt(3) * math.hypot(*d))),
    ("matern", {"nu": 3.7}, lambda d: matern(math.hypot(*d), 3.7)),
    ("rational_quadratic", {"alpha": 0.3}, lambda d: (1 + math.hypot(*d) ** 2 / 0.6) ** -0.3),
    ("rational_quadratic", {"alpha": 1.0}, lambda d: 1 / (1 + math.hypot(*d) ** 2 / 2)),
    ("rational_quadratic", {"alpha": 5.0}, lambda d: (1 + math.hypot(*d) ** 2 / 10) ** -5),
    ("gamma_exponential", {"gamma": 0.4}, lambda d: math.exp(-(math.hypot(*d) ** 0.4))),
    ("gamma_exponential", {"gamma": 1.0}, lambda d: math.exp(-math.hypot(*d))),
    ("gamma_exponential", {"gamma": 1.6}, lambda d: math.exp(-(math.hypot(*d) ** 1.6))),
    ("gamma_exponential", {"gamma": 2.0}, lambda d: math.exp(-(math.hypot(*d) ** 2))),
]


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "options", "kernel"), CASES, ids=lambda v: str(v) if isinstance(v, (str, dict)) else ""
)
def test_mean_cosine_is_the_kernel(kind, options, kernel, dim):
    scale = 2.5
    drawn = draw(kind, dim=dim, scale=scale, **options).double()
    direction = torch.tensor([0.6, -0.3, 0.742][:dim], dtype=torch.float64)
    for distance in (0.05, 0.4, 1.0, 2.2):
        offset = direction / direction.norm() * distance
        cosines = torch.cos(drawn @ (offset / scale))
        error = cosines.std().item() / math.sqrt(DRAWS)
        # 156 comparisons: 4.5 standard errors are exceeded by chance once in a thousand runs.
        assert abs(cosines.mean().item() - kernel(offset.tolist())) < 4.5 * error


def test_matern_approaches_the_gaussian_as_nu_grows():
    # E|w|^2 of Student's t with 2 nu degrees of freedom is m * nu / (nu - 1).
    squared = draw("matern", nu=50.0).double().square().sum(1)
    assert squared.mean().item() == pytest.approx(2 * 50 / 49, abs=5 * squared.std().item() / math.sqrt(DRAWS))


def test_median_length_of_a_cauchy():
    # |w| of a two-dimensional Cauchy vector: P(|w| <= r) = 1 - (1 + r^2)^(-1/2), one half at sqrt(3).
    median = draw("gamma_exponential", gamma=1.0).norm(dim=1).median().item()
    assert median == pytest.approx(math.sqrt(3), rel=0.05)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("laplacian", {}),
        ("matern", {"nu": 1e-4}),
        ("rational_quadratic", {"alpha": 1e-4}),
        ("gamma_exponential", {"gamma": 1e-4}),
        ("gamma_exponential", {"gamma": 2 - 1e-12}),
    ],
)
@pytest.mark.parametrize("scale", [1e-3, 1e6])
def test_tails_stay_finite(kind, options, scale):
    drawn = draw(kind, dim=3, scale=scale, **options)
    assert drawn.dtype == torch.float32
    assert torch.isfinite(drawn).all() and torch.isfinite(drawn.square().sum(1)).all()


def test_shortened_frequencies_keep_their_direction():
    drawn = draw("matern", count=2000, dim=2, nu=1e-3)
    longest = drawn.abs().amax(1)
    assert (longest == 1e18).float().mean() > 0.5
    angles = torch.atan2(drawn[:, 0], drawn[:, 1])
    assert angles.unique().numel() > 1900


def test_draws_depend_on_the_generator_only():
    for kind, options, _ in CASES:
        first = draw(kind, count=50, seed=3, **options)
        torch.manual_seed(99)
        assert torch.equal(first, draw(kind, count=50, seed=3, **options))
        assert not torch.equal(first, draw(kind, count=50, seed=4, **options))


def test_unknown_kernel():
    with pytest.raises(ValueError, match="polynomial"):
        draw("polynomial")
