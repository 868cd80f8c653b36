"""Conjugate gradients against a dense solution, with systems that have none or many."""

import torch

from nid_dist.conjugate_gradients import conjugate_gradients


def spd(size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(size, size, dtype=torch.float64, generator=generator)
    matrix = factor @ factor.t() + torch.diag(torch.logspace(0, 4, size, dtype=torch.float64))
    return matrix, torch.randn(size, dtype=torch.float64, generator=generator)


def test_it_is_the_dense_solution() -> None:
    matrix, right = spd()
    expected = torch.linalg.solve(matrix, right)
    for inverse in (1.0, 1 / matrix.diagonal()):
        found = conjugate_gradients(lambda x: matrix @ x, right, iterations=200, tolerance=1e-12, inverse=inverse)
        assert torch.allclose(found.value, expected, rtol=1e-8, atol=1e-12)
        assert found.iterations < 200 and found.residual <= 1e-12
    # A diagonal system, conditioned by its diagonal, needs one step.
    own = matrix.diagonal()
    once = conjugate_gradients(lambda x: own * x, right, iterations=200, tolerance=1e-12, inverse=1 / own)
    assert once.iterations == 1


def test_it_looks_now_and_then_only_and_is_bounded() -> None:
    matrix, right = spd()
    asked = conjugate_gradients(lambda x: matrix @ x, right, iterations=200, tolerance=1e-6, asked=7)
    assert asked.iterations % 7 == 0 and asked.residual <= 1e-6
    bounded = conjugate_gradients(lambda x: matrix @ x, right, iterations=2, tolerance=1e-12)
    assert bounded.iterations == 2 and bounded.residual > 1e-12
    size = right.norm() * 1e6
    assert conjugate_gradients(lambda x: matrix @ x, right, iterations=9, tolerance=1e-3, size=size).iterations == 1


def test_nothing_to_solve_and_nothing_that_restrains_stay_finite() -> None:
    matrix, right = spd()
    nothing = conjugate_gradients(lambda x: matrix @ x, torch.zeros_like(right), iterations=9, tolerance=1e-6)
    assert not nothing.value.any() and nothing.residual == 0
    loose = conjugate_gradients(lambda x: 0 * x, torch.zeros_like(right), iterations=9, tolerance=1e-6)
    assert not loose.value.any()
