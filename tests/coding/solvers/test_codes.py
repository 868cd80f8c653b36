"""Codes at coordinates or weights of each signal's own, against the solver of shared ones and a dense oracle."""

import numpy as np
import pytest
import torch

from nid_dist.coding.solvers import reduce_problem, solve_codes, solve_omp
from nid_dist.coding.solvers.ridge import SingularSystem
from nid_dist.measurements.sampling import Sampling
from nid_dist.samples import Samples
from tests.dictionary import oracle


@pytest.mark.parametrize(("count", "layers"), [(40, 1), (4, 1), (40, 2)])
def test_each_signal_is_solved_as_alone(count: int, layers: int) -> None:
    dictionary = oracle.make_dictionary(
        d=2, experts=20, width=6, private_layers=layers, shared_layers=1, features=8, seed=1
    ).double()
    generator = torch.Generator().manual_seed(2)
    coords = 2 * torch.rand(3, count, 2, generator=generator, dtype=torch.float64) - 1
    signals = torch.rand(3, count, 2, generator=generator, dtype=torch.float64)
    found = solve_codes(dictionary, Samples(coords, signals), 4, 2, 1e-6)
    for signal in range(3):
        problem = reduce_problem(dictionary, Sampling(coords[signal]), signals[signal : signal + 1])
        alone = solve_omp(problem, 4, 2, 1e-6)
        own = found.code.rows(slice(signal, signal + 1))
        assert own.indices is not None and torch.equal(own.indices, alone.code.indices)
        torch.testing.assert_close(own.values, alone.code.values, rtol=1e-4, atol=1e-8)
        torch.testing.assert_close(own.bias, alone.code.bias, rtol=1e-4, atol=1e-8)
        torch.testing.assert_close(found.residual[signal : signal + 1], alone.residual, rtol=1e-4, atol=1e-8)


def test_a_full_support_is_least_squares() -> None:
    dictionary = oracle.make_dictionary(d=1, experts=5, width=6, private_layers=1, shared_layers=1, features=8, seed=1)
    dictionary = dictionary.double()
    generator = torch.Generator().manual_seed(3)
    coords = 2 * torch.rand(1, 50, 2, generator=generator, dtype=torch.float64) - 1
    values = torch.rand(1, 50, 1, generator=generator, dtype=torch.float64)
    found = solve_codes(dictionary, Samples(coords, values), 5, None, 0.0)
    with torch.no_grad():
        atoms = dictionary.atoms(coords[0])[..., 0].t().numpy()
    design = np.concatenate([atoms, np.ones((50, 1))], 1)
    expected = np.linalg.lstsq(design, values[0, :, 0].numpy(), rcond=None)[0]
    np.testing.assert_allclose(found.code.dense(5)[0].numpy(), expected[:5], rtol=1e-4, atol=1e-7)


def test_which_signal_failed_is_said() -> None:
    dictionary = oracle.make_dictionary(d=1, experts=4, width=6, private_layers=1, shared_layers=1, features=8, seed=1)
    with torch.no_grad():
        dictionary.experts.rows[1] = dictionary.experts.rows[0]
    coords, values = torch.rand(2, 30, 2, dtype=torch.float64), torch.rand(2, 30, 1, dtype=torch.float64)
    with pytest.raises(SingularSystem, match="signal 0"):
        solve_codes(dictionary.double(), Samples(coords, values), 4, 1, 0.0)


@pytest.mark.parametrize("shared", [True, False])
def test_weights_count(shared: bool) -> None:
    """What has no weight is as if it had not been measured."""
    dictionary = oracle.make_dictionary(d=2, experts=20, width=6, private_layers=1, shared_layers=1, features=8, seed=1)
    generator = torch.Generator().manual_seed(4)
    coords = 2 * torch.rand(40, 2, generator=generator, dtype=torch.float64) - 1
    signals = torch.rand(2, 40, 2, generator=generator, dtype=torch.float64)
    weights = (torch.rand(2, 40, generator=generator) < 0.7).double()
    given = coords if shared else coords.expand(2, -1, -1)
    found = solve_codes(dictionary.double(), Samples(given, signals, weights), 4, 2, 1e-6)
    for signal, kept in enumerate(weights > 0):
        alone = solve_codes(dictionary, Samples(coords[None, kept], signals[signal : signal + 1, kept]), 4, 2, 1e-6)
        own = found.code.rows(slice(signal, signal + 1))
        assert own.indices is not None and torch.equal(own.indices, alone.code.indices)
        torch.testing.assert_close(own.values, alone.code.values, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found.residual[signal], alone.residual[0])
