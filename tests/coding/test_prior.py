import numpy as np
import torch

from nid_dist.coding.prior import Prior, StoredPrior, learn_prior


def heads(variances: list[float], count: int) -> torch.Tensor:
    """Points with exactly these variances along the axes, and zero mean."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(count, len(variances), generator=generator, dtype=torch.float64)
    points -= points.mean(0)
    white = points @ torch.linalg.inv(torch.linalg.cholesky(points.t() @ points / count)).t()
    return white * torch.tensor(variances, dtype=torch.float64).sqrt()


def test_a_gaussian_is_learned_from_its_sample():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    mean = torch.arange(6.0, dtype=torch.float64)
    prior = learn_prior(heads([9.0, 4.0, 0.25, 0.25, 0.25, 0.25], 1000) @ basis.t() + mean, 2)
    torch.testing.assert_close(prior.mean, mean)
    torch.testing.assert_close(prior.variances, torch.tensor([9.0, 4.0], dtype=torch.float64))
    torch.testing.assert_close(prior.floor, torch.tensor(0.25, dtype=torch.float64))
    covariance = basis @ torch.diag(torch.tensor([9.0, 4.0, *4 * [0.25]], dtype=torch.float64)) @ basis.t()
    torch.testing.assert_close(prior.precision(), torch.linalg.inv(covariance))
    torch.testing.assert_close(prior.root() @ prior.root().t(), covariance)


def test_the_floor_is_the_mean_of_the_variances_left_out():
    prior = learn_prior(heads([8.0, 4.0, 2.0, 1.0], 100), 2)
    np.testing.assert_allclose(prior.variances, [8, 4])
    np.testing.assert_allclose(prior.floor, 1.5)


def test_what_few_signals_miss_of_each_other_is_in_the_floor():
    # Three points span a plane. Each lies off the line through the others, at the heights of a triangle of sides 4, 1
    # and sqrt(17), 4 / sqrt(17), 4 and 1: what a fourth point has beside the plane is in the one direction left.
    points = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 1, 0]], dtype=torch.float64)
    prior = learn_prior(points, 10)
    assert prior.basis.shape == (3, 2)
    np.testing.assert_allclose(prior.floor, (16 / 17 + 16 + 1) / 3, rtol=0.05)


def test_the_floor_says_how_far_other_signals_are_from_the_span():
    """Of 30 signals in 100 numbers of variances 1 / j^2, against the distances of 300 others."""
    generator = torch.Generator().manual_seed(1)
    scale = 1 / torch.arange(1.0, 101, dtype=torch.float64)
    points = torch.randn(330, 100, generator=generator, dtype=torch.float64) * scale
    prior = learn_prior(points[:30], 50)
    others = points[30:] - prior.mean
    beside = others - others @ prior.basis @ prior.basis.t()
    expected = beside.square().sum(1).mean() / (100 - 29)
    assert prior.basis.shape == (100, 29) and 0.8 < prior.floor / expected < 1.25


def test_equal_signals_have_a_tiny_variance():
    for count in (2, 5):
        prior = learn_prior(torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64).expand(count, -1), 2)
        assert isinstance(prior, Prior) and 0 < prior.floor < 1e-6
        assert bool(prior.precision().isfinite().all())


def test_a_prior_that_was_kept_is_positive_however_small_its_floor():
    """Variances from 1 to 1e-9 beside a floor of 1e-9 in 40 numbers, kept in float32."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(40, 20, generator=generator, dtype=torch.float64)).Q
    stored = StoredPrior(40, 20)
    stored.set(Prior(torch.zeros(40), basis, torch.logspace(0, -9, 20), torch.tensor(1e-9)))
    assert stored.value is not None
    values = torch.linalg.eigvalsh(stored.value.precision())
    np.testing.assert_allclose(values[0], 1, rtol=1e-3)
    np.testing.assert_allclose(values[-1], 1e9, rtol=1e-3)
