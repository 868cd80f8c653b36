import pytest
import torch

from nid_dist.code import Code
from nid_dist.coding.solvers import reduce_problem
from nid_dist.coding.solvers.solution import best_bias, residual
from tests.dictionary import oracle


@pytest.mark.parametrize("k", [1, 6, 20, None])
def test_residual_is_the_error_of_f_itself(setting, k):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    code = oracle.random_code(20, k, signals=4)
    values = oracle.f(setting.dictionary, code, setting.measurement.coords)
    expected = (values - setting.signals).square().mean((1, 2))
    torch.testing.assert_close(residual(problem, code), expected, rtol=1e-9, atol=0)


def test_best_bias_leaves_no_mean(setting):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    code = oracle.random_code(20, 6, signals=4)
    with torch.no_grad():
        code = Code(code.values, best_bias(problem, code.indices, code.values), code.indices)
        rest = oracle.f(setting.dictionary, code, setting.measurement.coords) - setting.signals
    torch.testing.assert_close(rest.mean(1), torch.zeros(4, 2).double(), rtol=0, atol=1e-10)
