import pytest
import torch

from nid_dist.coding.solvers import problem as module
from nid_dist.coding.solvers import reduce_problem, solve_omp, solve_ridge, statistics
from nid_dist.coding.solvers.problem import cholesky_factor
from nid_dist.measurements.sampling import Sampling

SUPPORT = torch.tensor([[0, 3, 7], [1, 2, 19], [5, 6, 4], [11, 10, 18]])


def centred(setting) -> tuple[torch.Tensor, torch.Tensor]:
    """Atoms and signals less their means per channel, so scaled that sums are means over the measurements."""
    size = setting.measurement.size
    atoms = torch.from_numpy(setting.columns().T).unflatten(1, (size, 2))
    return tuple(((x - x.mean(1, keepdim=True)) * size**-0.5).flatten(1) for x in (atoms, setting.signals))


@pytest.mark.parametrize("way", ["auto", "_through_atoms", "_through_gram", "_through_features"])
def test_inner_products_means_and_energies_are_kept(setting, way):
    arguments = setting.dictionary, setting.measurement, setting.signals
    with torch.no_grad():
        if way == "auto":
            problem = reduce_problem(*arguments)
        elif way == "_through_features":
            if not setting.dictionary.linear:
                return
            problem = module._through_features(setting.dictionary, setting.dictionary.experts, *arguments[1:])
        else:
            problem = getattr(module, way)(*arguments)
    atoms, signals = centred(setting)
    torch.testing.assert_close(problem.atoms @ problem.atoms.t(), atoms @ atoms.t())
    torch.testing.assert_close(problem.targets @ problem.atoms.t(), signals @ atoms.t())
    energy = problem.targets.square().sum(1) + problem.residual_floor
    torch.testing.assert_close(energy, signals.square().sum(1))
    means = torch.from_numpy(setting.columns()).unflatten(0, (-1, 2)).mean(0).t()
    torch.testing.assert_close(problem.atom_means, means)
    torch.testing.assert_close(problem.target_means, setting.signals.mean(1))


def test_the_smallest_form_is_chosen(make_setting):
    def dimensions(private: int, count: int) -> int:
        setting = make_setting(private, count)
        return reduce_problem(setting.dictionary, setting.measurement, setting.signals).atoms.shape[1]

    # D = min(M, h) * d for linear heads of h = 6, and min(M * d, n) for n = 20 deep experts.
    assert [dimensions(1, count) for count in (4, 6, 7, 40)] == [8, 12, 12, 12]
    assert [dimensions(2, count) for count in (4, 10, 40)] == [8, 20, 20]


@pytest.mark.parametrize("size", [1, 300, 10**9])
def test_the_size_of_a_pass_changes_nothing(setting, monkeypatch, size):
    expected = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    for each in (module, statistics):
        monkeypatch.setattr(each, "FLOATS", size)
    found = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    torch.testing.assert_close(found.atoms @ found.atoms.t(), expected.atoms @ expected.atoms.t())
    for solve in (lambda p: solve_ridge(p, SUPPORT), lambda p: solve_omp(p, 4)):
        one, other = solve(found), solve(expected)
        torch.testing.assert_close(one.code.dense(20), other.code.dense(20))
        torch.testing.assert_close(one.residual, other.residual)


def test_atoms_are_kept_in_the_order_of_the_measurements(setting):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals, through="atoms")
    atoms, signals = centred(setting)
    torch.testing.assert_close(problem.atoms, atoms)
    torch.testing.assert_close(problem.targets, signals)
    assert not problem.residual_floor.any()


@pytest.mark.parametrize("kind", ["more features than measurements", "repeated features", "a vanishing atom"])
def test_features_without_full_rank(make_setting, kind):
    setting = make_setting(count=4 if kind.startswith("more") else 40)
    dictionary = setting.dictionary
    with torch.no_grad():
        if kind == "repeated features":
            dictionary.trunk.layers[0].weight[3:] = dictionary.trunk.layers[0].weight[:3]
            dictionary.trunk.layers[0].bias[3:] = dictionary.trunk.layers[0].bias[:3]
        elif kind == "a vanishing atom":
            dictionary.experts.rows[5] = 0
        features = module._through_features(dictionary, dictionary.experts, setting.measurement, setting.signals)
        atoms = module._through_atoms(dictionary, setting.measurement, setting.signals)
    assert features.atoms.shape[1] == {"m": 6, "r": 6, "a": 12}[kind[0]]
    torch.testing.assert_close(features.atoms @ features.atoms.t(), atoms.atoms @ atoms.atoms.t())
    for one, other in (
        (solve_ridge(p, SUPPORT) for p in (features, atoms)),
        (solve_omp(p, 3) for p in (features, atoms)),
    ):
        torch.testing.assert_close(one.code.values, other.code.values, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(one.residual, other.residual, rtol=1e-6, atol=1e-9)


def test_a_large_mean_of_the_features_costs_no_digits(make_setting):
    setting = make_setting(trunk_output="linear")
    before = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    with torch.no_grad():
        # The heads take back what the mean adds.
        setting.dictionary.trunk.layers[0].bias += 1e5
        setting.dictionary.experts.offset.sub_(1e5 * setting.dictionary.experts.weight.sum(2))
    after = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    torch.testing.assert_close(after.atoms @ after.atoms.t(), before.atoms @ before.atoms.t(), rtol=1e-6, atol=1e-9)
    assert after.atoms.shape == before.atoms.shape


@pytest.mark.parametrize("private", [1, 2])
@pytest.mark.parametrize("count", [4, 40])
def test_problems_have_the_dictionarys_type(make_setting, private, count):
    setting = make_setting(private, count)
    for dtype, other in ((torch.float32, torch.float64), (torch.float64, torch.float32)):
        measurement = Sampling(setting.measurement.coords.to(dtype))
        problem = reduce_problem(setting.dictionary.to(dtype), measurement, setting.signals.to(other))
        assert {x.dtype for x in vars(problem).values() if x is not None} == {dtype}


def test_problem_of_some_signals(setting):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    part = problem.signals(slice(1, 3))
    whole = solve_ridge(problem, SUPPORT).code.values[1:3]
    torch.testing.assert_close(solve_ridge(part, SUPPORT[1:3]).code.values, whole)


def test_a_factor_that_does_not_exist_is_not_a_number() -> None:
    good = torch.eye(3, dtype=torch.float64)
    bad = good.clone()
    bad[1, 1] = -1.0
    factors = cholesky_factor(torch.stack([good, bad]))
    torch.testing.assert_close(factors[0], good)
    assert factors[1].isnan().all()
