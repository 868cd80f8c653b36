"""The noise found in measurements against their density, written out densely, and against the noise they were given."""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal

from nid_dist.coding.solvers.evidence import likely_noise
from tests.coding.solvers.test_map import covariance, make_prior, operator


def drawn(setting, noise: float, count: int) -> torch.Tensor:
    """Measurements of heads that are drawn from the prior, with noise."""
    generator, prior = np.random.default_rng(5), make_prior()
    matrix = operator(setting, setting.measurement)
    heads = generator.multivariate_normal(prior.mean.numpy(), covariance(prior), count)
    values = heads @ matrix.T + noise * generator.standard_normal((count, len(matrix)))
    return torch.from_numpy(values).unflatten(1, (-1, 2))


def test_it_is_the_most_probable(make_setting):
    setting, prior = make_setting(count=40), make_prior()
    measured = drawn(setting, 0.03, 3)
    matrix = operator(setting, setting.measurement)

    def loss(logarithm: float) -> float:
        spread = matrix @ covariance(prior) @ matrix.T + np.exp(2 * logarithm) * np.eye(len(matrix))
        density = multivariate_normal(matrix @ prior.mean.numpy(), spread)
        return -float(density.logpdf(measured.flatten(1).numpy()).sum())

    expected = np.exp(minimize_scalar(loss, bounds=(-8, 0), method="bounded").x)
    found = likely_noise(setting.dictionary, setting.measurement, measured, prior)
    assert abs(np.log(found / expected)) < 0.1  # steps of 15 %


def test_it_is_the_noise(make_setting):
    for noise in (0.03, 0.1):
        setting = make_setting(count=40)
        found = likely_noise(setting.dictionary, setting.measurement, drawn(setting, noise, 20), make_prior())
        assert 0.85 < found / noise < 1.18


def test_measurements_that_can_be_met_exactly_are_not_believed_to_the_last_digit(make_setting):
    setting = make_setting(count=5)
    measured = drawn(setting, 0.0, 1)
    found = likely_noise(setting.dictionary, setting.measurement, measured, make_prior())
    assert found >= 4.9e-3 * measured.square().mean().sqrt()
