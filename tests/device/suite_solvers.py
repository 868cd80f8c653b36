"""Solvers on the device: the CPU's codes, and how often the host waits for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from nid_dist.coding.solvers import (
    Solution,
    reduce_problem,
    solve_adam,
    solve_codes,
    solve_fista,
    solve_irls,
    solve_omp,
    solve_ridge,
)
from nid_dist.detail.pursuit import pursue
from nid_dist.detail.sparse import SparseRows
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Sampling
from nid_dist.samples import Samples
from tests.device.simulated import counted
from tests.dictionary import oracle

SIM = torch.device("sim")
EXPERTS, K, SIGNALS = 40, 6, 5


def make(private: int = 1, device: str = "cpu") -> Dictionary:
    dictionary = oracle.make_dictionary(
        d=2, experts=EXPERTS, width=8, private_layers=private, shared_layers=1, features=8, seed=1
    )
    return dictionary.float().to(device)


def measured(count: int, own: bool, weighted: bool, signals: int = SIGNALS) -> Samples:
    generator = torch.Generator().manual_seed(2)
    shape = (signals, count, 2) if own else (count, 2)
    coords = 2 * torch.rand(*shape, generator=generator) - 1
    values = torch.rand(signals, count, 2, generator=generator)
    weights = torch.rand(signals, count, generator=generator).round() if weighted else None
    return Samples(coords, values, weights)


def assert_same(here: Solution, there: Solution) -> None:
    assert here.code.indices is not None and there.code.indices is not None
    assert torch.equal(there.code.indices.cpu(), here.code.indices)
    for found, expected in (
        (there.code.values, here.code.values),
        (there.code.bias, here.code.bias),
        (there.residual, here.residual),
    ):
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-6)
    # A GPU is asked now and then only whether the signals have settled.
    assert len(here.log) <= len(there.log)


@contextmanager
def at_most(allowed: int) -> Iterator[None]:
    with counted() as waits:
        yield
    assert waits.total() <= allowed, waits.most_common()


@pytest.mark.parametrize("count", [6, 40])
@pytest.mark.parametrize(("own", "weighted"), [(False, False), (True, False), (True, True), (False, True)])
@pytest.mark.parametrize("private", [1, 2])
@pytest.mark.parametrize("blocks", [2, None])
def test_codes_of_a_step_are_found_without_waiting(
    count: int, own: bool, weighted: bool, private: int, blocks: int | None
) -> None:
    samples = measured(count, own, weighted)
    here = solve_codes(make(private), samples, K, blocks, check=False)
    dictionary, sent = make(private, "sim"), samples.to(SIM)
    with at_most(0):
        there = solve_codes(dictionary, sent, K, blocks, check=False)
    assert_same(here, there)
    with at_most(1):
        solve_codes(dictionary, sent, K, blocks)


def test_many_signals_share_inner_products_of_all_atoms() -> None:
    samples = measured(40, False, False, signals=64)
    here, dictionary, sent = solve_codes(make(), samples, K, check=False), make(device="sim"), samples.to(SIM)
    with at_most(0):
        there = solve_codes(dictionary, sent, K, check=False)
    assert_same(here, there)


@pytest.mark.parametrize("check", [True, False])
def test_a_singular_system_is_marked(check: bool) -> None:
    dictionary, samples = make(device="sim"), measured(30, False, False).to(SIM)
    with torch.no_grad():
        dictionary.experts.rows[1:] = dictionary.experts.rows[:1]
    if check:
        with pytest.raises(Exception, match="signal 0: found a singular system"):
            solve_codes(dictionary, samples, K, 2, 0.0)
        return
    with at_most(0):
        found = solve_codes(dictionary, samples, K, 2, 0.0, check=False)
    assert bool(found.code.values.isnan().all())


SOLVERS: dict[str, tuple[int, Callable[..., Solution]]] = {
    "omp": (2, lambda problem, start, **_: solve_omp(problem, K)),
    "omp to a tolerance": (2 + K, lambda problem, start, **_: solve_omp(problem, K, tolerance=1e-3)),
    "ridge": (2, lambda problem, start, **_: solve_ridge(problem, start.indices)),
    "adam": (2, lambda problem, start, **_: solve_adam(problem, start)),
    "fista": (2 + 200 // 8, lambda problem, start, **_: solve_fista(problem, K)),
    "irls": (2 + 30 // 8, lambda problem, start, **given: solve_irls(**given, k=K)),
    "irls of given supports": (
        2 + 60 // 8,
        lambda problem, start, **given: solve_irls(**given, k=K, loss="tukey", indices=start.indices),
    ),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_wait_a_few_times(name: str) -> None:
    allowed, solve = SOLVERS[name]
    found: list[Any] = []
    for device in (torch.device("cpu"), SIM):
        samples, dictionary = measured(30, False, False).to(device), make(device=device.type)
        measurement = Sampling(samples.coords)
        problem = reduce_problem(dictionary, measurement, samples.values)
        start = solve_omp(problem, K, 1).code
        given = {"dictionary": dictionary, "measurement": measurement, "measured": samples.values}
        with at_most(allowed):
            found.append(solve(problem, start, **given))
    assert_same(*found)


def test_a_sparse_matrix_is_the_cpus() -> None:
    generator = torch.Generator().manual_seed(3)
    row, column = (torch.randint(high, (30,), generator=generator) for high in (7, 5))
    value, vectors = torch.randn(30, generator=generator), torch.randn(2, 5, generator=generator)
    here = SparseRows.of(row, column, value, (7, 5))
    there = SparseRows.of(row.to(SIM), column.to(SIM), value.to(SIM), (7, 5))
    found = there(vectors.to(SIM))
    assert found.device.type == "sim"
    torch.testing.assert_close(found.cpu(), here(vectors))
    torch.testing.assert_close(there.transposed(found).cpu(), here.transposed(here(vectors)))


def test_a_pursuit_of_splines_is_the_cpus() -> None:
    picture = torch.rand(12, 10, 3, generator=torch.Generator().manual_seed(1))
    trend = torch.linalg.qr(torch.randn(360, 3, generator=torch.Generator().manual_seed(2))).Q.t().reshape(3, 12, 10, 3)
    here, there = pursue(picture, 30, trend), pursue(picture.to(SIM), 30, trend.to(SIM))
    assert there.left_over.device.type == there.detail.values.device.type == "sim"
    assert torch.equal(here.detail.members, there.detail.members.cpu())
    assert torch.allclose(here.detail.values, there.detail.values.cpu(), atol=1e-3)
