"""Quantised codes: how far they may be off, that rounding knows what was rounded, and what a price leaves out."""

import numpy as np
import pytest
import torch

from nid_dist.code import Code
from nid_dist.coding.quantization import Quantizer
from nid_dist.coding.solvers import Problem, solve_omp

STEP = 0.2


def problem(coherence: float, signals: int = 12) -> Problem:
    """Atoms that look alike more or less, and signals that are near sparse in them."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(1, 20, generator=generator)
    atoms = torch.randn(30, 20, generator=generator) + coherence * common
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    targets = torch.randn(signals, 30, generator=generator) @ atoms
    means = torch.randn(30, 2, generator=generator)
    return Problem(atoms, targets, means, torch.randn(signals, 2, generator=generator), torch.zeros(signals))


def errors(given: Problem, code: Code) -> torch.Tensor:
    return (code.dense(30) @ given.atoms - given.targets).square().sum(1)


@pytest.mark.parametrize("coherence", [0.0, 3.0])
def test_error_bound(coherence: float) -> None:
    """What lies in the span of a signal's atoms is off by 0.6 steps of an atom's own direction at most."""
    given = problem(coherence)
    exact = solve_omp(given, 8, None, 0.0).code
    assert exact.indices is not None
    for ordered in (True, False):
        found = Quantizer(given, [exact], ordered=ordered).at(STEP)
        np.testing.assert_allclose(
            found.code.values.numpy() / STEP, np.rint(found.code.values.numpy() / STEP), atol=1e-5
        )
        for signal, chosen in enumerate(exact.indices):
            order = chosen
            if not ordered:
                order = chosen[exact.values[signal].abs().argsort(descending=True)]
            own = torch.linalg.qr(given.atoms[order].t()).R.diagonal()
            bound = (0.6 * STEP * own).square().sum()
            assert errors(given, found.code)[signal] <= errors(given, exact)[signal] + bound + 1e-5


def test_rounding_one_by_one_is_worse() -> None:
    given = problem(3.0)
    exact = solve_omp(given, 8, None, 0.0).code
    rounded = Code((exact.values / STEP).round() * STEP, exact.bias, exact.indices)
    found = Quantizer(given, [exact], ordered=True).at(STEP).code
    least = errors(given, exact).mean()
    assert errors(given, found).mean() - least < 0.7 * (errors(given, rounded).mean() - least)


def test_biases() -> None:
    """They make up for the coefficients' rounding, up to half a step of their own."""
    given = problem(0.0)
    found = Quantizer(given, [solve_omp(given, 5, None, 0.0).code], ordered=True).at(STEP)
    exact = given.target_means - found.code.dense(30) @ given.atom_means
    assert (found.code.bias - exact).abs().max() <= found.bias_step / 2 + 1e-6
    assert found.bias_step == pytest.approx(STEP * float(given.energy) ** 0.5)


def test_where_there_is_no_room_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    given = problem(1.0)
    codes = [solve_omp(given.signals(part), 6, None, 0.0).code for part in (slice(0, 5), slice(5, 12))]
    kept = Quantizer(given, codes, ordered=True)
    monkeypatch.setattr("nid_dist.coding.quantization._ROOM", 40)
    for _ in range(2):
        np.testing.assert_array_equal(Quantizer(given, codes, ordered=True).at(STEP).values, kept.at(STEP).values)


def test_a_price_leaves_out_the_last() -> None:
    given = problem(0.0)
    quantizer = Quantizer(given, [solve_omp(given, 15, None, 0.0).code], ordered=True)
    free, cheap, dear = (quantizer.at(STEP, price) for price in (0.0, 2.0, 1e6))
    counts = [(found.values != 0).sum() for found in (free, cheap, dear)]
    assert counts[0] > counts[1] > counts[2] == 0

    def costs(values: np.ndarray, code: Code) -> float:
        return float(errors(given, code).sum() + 2.0 * STEP**2 * (values != 0).sum())

    assert costs(cheap.values, cheap.code) < costs(free.values, free.code)
