"""The most probable code against the Gaussian's conditional mean and covariance, written out densely."""

import numpy as np
import pytest
import torch

from nid_dist.coding.prior import Prior
from nid_dist.coding.solvers.map import posterior, solve_map
from nid_dist.errors import UserError
from nid_dist.measurements.sampling import Sampling

NOISE = 0.05


def make_prior() -> Prior:
    """Of heads with h = 6 and d = 2: r = 14."""
    generator = torch.Generator().manual_seed(3)
    basis = torch.linalg.qr(torch.randn(14, 4, generator=generator, dtype=torch.float64))[0]
    mean = 0.3 * torch.randn(14, generator=generator, dtype=torch.float64)
    return Prior(mean, basis, torch.tensor([2.0, 1.0, 0.5, 0.3]).double(), torch.tensor(0.01).double())


def covariance(prior: Prior) -> np.ndarray:
    basis = prior.basis.numpy()
    return basis @ np.diag(prior.variances - prior.floor) @ basis.T + prior.floor.item() * np.eye(14)


def operator(setting, measurement) -> np.ndarray:
    """The matrix from merged heads to measurements, [M * d, r]."""
    with torch.no_grad():
        features = setting.dictionary.trunk(measurement.coords)
    ones = torch.ones(len(features), 1, dtype=torch.float64)
    features, ones = (measurement.matrix @ x if hasattr(measurement, "matrix") else x for x in (features, ones))
    rows = np.zeros((len(features), 2, 14))
    for channel in range(2):
        rows[:, channel, channel * 6 : channel * 6 + 6] = features
        rows[:, channel, 12 + channel] = ones[:, 0]
    return rows.reshape(-1, 14)


def conditional(setting, measurement) -> tuple[np.ndarray, np.ndarray]:
    """Mean per signal, and covariance, of the head given the measurements (the gain form)."""
    prior, matrix = make_prior(), operator(setting, measurement)
    prior_covariance, mean = covariance(prior), prior.mean.numpy()
    noise = NOISE**2 * np.ones(len(matrix))
    gain = prior_covariance @ matrix.T @ np.linalg.inv(matrix @ prior_covariance @ matrix.T + np.diag(noise))
    means = np.stack([mean + gain @ (y.flatten().numpy() - matrix @ mean) for y in setting.signals])
    return means, prior_covariance - gain @ matrix @ prior_covariance


def heads(setting, code) -> np.ndarray:
    merged = setting.dictionary.experts.merge(code).detach().clone()
    merged[:, 12:] += code.bias
    return merged.numpy()


@pytest.mark.parametrize("kind", ["samples", "few samples", "mixtures"])
def test_with_all_experts_it_is_the_conditional_mean(make_setting, make_mixing, kind):
    setting = make_setting(count=5 if kind == "few samples" else 40)
    measurement = make_mixing() if kind == "mixtures" else setting.measurement
    arguments = setting.dictionary, measurement, setting.signals, make_prior()
    solution = solve_map(*arguments, noise=NOISE, k=20, ridge=1e-12)
    means, spread = conditional(setting, measurement)
    np.testing.assert_allclose(heads(setting, solution.code), means, rtol=1e-4, atol=1e-5)
    found = posterior(*arguments, NOISE)
    np.testing.assert_allclose(np.linalg.inv(found.precision), spread, rtol=1e-6, atol=1e-10)
    error = means @ operator(setting, measurement).T - setting.signals.flatten(1).numpy()
    np.testing.assert_allclose(solution.residual, (error**2).mean(1), rtol=1e-3)


def test_a_code_is_the_best_of_its_support(make_setting):
    setting = make_setting()
    arguments = setting.dictionary, setting.measurement, setting.signals, make_prior()
    solution = solve_map(*arguments, noise=NOISE, k=3, ridge=1e-13)
    indices = solution.code.indices
    precision, matrix = np.linalg.inv(covariance(make_prior())), operator(setting, setting.measurement)
    rows = np.concatenate([setting.dictionary.experts.rows.detach().numpy(), np.eye(14)[12:]])
    for t in range(4):
        used = rows[[*indices[t].tolist(), 20, 21]]  # three experts and the biases
        target, mean = setting.signals[t].flatten().numpy(), make_prior().mean.numpy()
        system = used @ (matrix.T @ matrix / NOISE**2 + precision) @ used.T
        right = used @ (matrix.T @ target / NOISE**2 + precision @ mean)
        expected = np.linalg.solve(system, right)
        np.testing.assert_allclose(solution.code.values[t], expected[:3], rtol=1e-5)
        np.testing.assert_allclose(solution.code.bias[t], expected[3:], rtol=1e-5)


def test_no_measurement_leaves_the_prior(make_setting):
    setting = make_setting()
    # Noise that drowns all there is.
    solution = solve_map(setting.dictionary, setting.measurement, setting.signals, make_prior(), noise=1e8, k=20)
    expected = make_prior().mean.expand(4, -1)
    np.testing.assert_allclose(heads(setting, solution.code), expected, rtol=1e-4, atol=1e-6)


def test_few_coefficients_and_no_signals(make_setting):
    setting = make_setting()
    for signals in (setting.signals, setting.signals[:0]):
        solution = solve_map(setting.dictionary, setting.measurement, signals, make_prior(), noise=NOISE, k=3)
        assert solution.code.values.shape == (len(signals), 3)


def test_deep_experts_have_no_merged_head(make_setting):
    setting = make_setting(2)
    with pytest.raises(UserError, match="solver map: found deep experts"):
        solve_map(setting.dictionary, setting.measurement, setting.signals, make_prior(), noise=NOISE, k=3)


def test_the_deviation_is_that_of_the_conditional_covariance(make_setting):
    setting = make_setting()
    known = posterior(setting.dictionary, setting.measurement, setting.signals, make_prior(), NOISE)
    coords = torch.tensor([[-0.3, 0.2], [0.5, 0.9], [0.0, 0.0]], dtype=torch.float64)
    _, spread = conditional(setting, setting.measurement)
    rows = operator(setting, Sampling(coords))
    expected = np.sqrt(np.einsum("pi,ij,pj->p", rows, spread, rows)).reshape(3, 2)
    np.testing.assert_allclose(known.deviation(setting.dictionary, coords), expected, rtol=1e-6)


def test_signals_lie_within_their_deviations_as_often_as_they_should(make_setting):
    """Signals drawn from the prior, measured with noise: 68 and 95 % of their values elsewhere."""
    setting, prior, generator = make_setting(count=8), make_prior(), np.random.default_rng(7)
    heads = generator.multivariate_normal(prior.mean.numpy(), covariance(prior), 500)
    matrix = operator(setting, setting.measurement)
    measured = heads @ matrix.T + NOISE * generator.standard_normal((500, len(matrix)))
    measured = torch.from_numpy(measured).unflatten(1, (-1, 2))
    known = posterior(setting.dictionary, setting.measurement, measured, prior, NOISE)
    elsewhere = torch.from_numpy(generator.uniform(-1, 1, (40, 2)))
    error = (heads - known.means.numpy()) @ operator(setting, Sampling(elsewhere)).T
    within = np.abs(error) / known.deviation(setting.dictionary, elsewhere).flatten().numpy()
    assert (within < 1).mean() == pytest.approx(0.683, abs=0.02) and (within < 2).mean() == pytest.approx(
        0.954, abs=0.01
    )
