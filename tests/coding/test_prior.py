import torch

from nid_dist.coding.prior import Prior, learn_prior


def test_a_gaussian_is_learned_from_its_moments():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 2, generator=generator, dtype=torch.float64))[0]
    mean = torch.arange(6.0, dtype=torch.float64)
    covariance = basis @ torch.diag(torch.tensor([9.0, 4.0], dtype=torch.float64)) @ basis.t()
    covariance += 0.25 * (torch.eye(6, dtype=torch.float64) - basis @ basis.t())
    prior = learn_prior(mean, covariance + torch.outer(mean, mean), 1000, 2)
    torch.testing.assert_close(prior.mean, mean)
    torch.testing.assert_close(prior.variances, torch.tensor([9.0, 4.0], dtype=torch.float64))
    torch.testing.assert_close(prior.floor, torch.tensor(0.25, dtype=torch.float64))
    torch.testing.assert_close(prior.precision(), torch.linalg.inv(covariance))


def test_the_floor_is_the_mean_of_the_variances_left_out():
    variances = torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)
    prior = learn_prior(torch.zeros(4, dtype=torch.float64), torch.diag(variances), 100, 2)
    assert prior.variances.tolist() == [8, 4] and prior.floor == 1.5


def test_few_signals_span_few_directions():
    # Three points span two directions; the third's variance is the weaker one's, not zero.
    points = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 1, 0]], dtype=torch.float64)
    prior = learn_prior(points.mean(0), points.t() @ points / 3, 3, 10)
    assert prior.basis.shape == (3, 2)
    torch.testing.assert_close(prior.floor, prior.variances[1])


def test_equal_signals_have_a_tiny_variance():
    point = torch.tensor([1.0, 2.0], dtype=torch.float64)
    prior = learn_prior(point, torch.outer(point, point), 5, 2)
    assert isinstance(prior, Prior) and 0 < prior.floor < 1e-6
    assert bool(prior.precision().isfinite().all())
