import math

import pytest
import torch

from nid_dist.code import Code
from nid_dist.coding.solvers import adam as module
from nid_dist.coding.solvers import reduce_problem, solve_adam, solve_ridge
from tests.dictionary import oracle

SUPPORT = torch.tensor([[0, 3, 7], [1, 2, 19], [5, 6, 4], [11, 10, 18]])


def start(scale: float = 0.3) -> Code:
    generator = torch.Generator().manual_seed(5)
    values = scale * torch.randn(4, 3, generator=generator, dtype=torch.float64)
    return Code(values, 0.5 * torch.ones(4, 2, dtype=torch.float64), SUPPORT)


@pytest.mark.parametrize("at_a_time", [1, 10**9])
@pytest.mark.parametrize("steps", [1, 5, 10])
def test_against_pytorchs_adam_on_the_dense_loss(setting, monkeypatch, steps, at_a_time):
    monkeypatch.setattr(module, "_GATHER_FLOATS", at_a_time)
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    solution = solve_adam(problem, start(), steps, lr=0.05)

    def loss_of(values: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        found = oracle.f(setting.dictionary, Code(values, bias, SUPPORT), setting.measurement.coords)
        return (found - setting.signals).square().mean()

    # The units: Newton's steps at the start, atoms taken as orthogonal, from the dense loss's own derivatives.
    values, bias = start().values.requires_grad_(), start().bias.requires_grad_()
    # 4 = T * d / 2: half the sum over signals and channels of the mean over coordinates.
    slope, offset = torch.autograd.grad(4 * loss_of(values, bias), (values, bias))
    atoms = setting.dictionary.atoms(setting.measurement.coords).detach()
    newton = slope / atoms.square().sum(2).mean(1)[SUPPORT]
    unit = newton.square().mean(1, keepdim=True).sqrt()
    bias_unit = offset.square().mean(1, keepdim=True).sqrt()
    relative = (start().values / unit).requires_grad_()
    relative_bias = (start().bias / bias_unit).requires_grad_()
    optimizer = torch.optim.Adam([relative, relative_bias], lr=0.05, eps=1e-30)
    errors = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = loss_of(unit * relative, bias_unit * relative_bias)
        errors.append(loss.item())
        optimizer.zero_grad()
        (4 * loss).backward()
        optimizer.step()
    torch.testing.assert_close(solution.code.values, (unit * relative).detach(), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(solution.code.bias, (bias_unit * relative_bias).detach(), rtol=1e-7, atol=1e-9)
    # The log tells the error after each step.
    assert [entry["step"] for entry in solution.log] == list(range(1, steps + 1))
    assert [entry["residual"] for entry in solution.log[:-1]] == pytest.approx(errors[1:])
    assert solution.log[-1]["residual"] == pytest.approx(solution.residual.mean().item())


@pytest.mark.parametrize("noise", [1e-3, 1e-1, 1.0])
def test_a_start_is_improved_however_good_it_is(setting, noise):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    best = solve_ridge(problem, SUPPORT, 0.0)
    moved = best.code.values * (1 + noise * torch.randn(4, 3, generator=torch.Generator().manual_seed(1)))
    code = Code(moved, best.code.bias, SUPPORT)
    errors = [solve_adam(problem, code, steps).residual.mean().item() for steps in (0, 5, 10)]
    assert errors[0] > errors[1] > errors[2] > best.residual.mean().item()


def test_the_start_is_left_as_it_was_and_no_steps_return_it(setting):
    problem, code = reduce_problem(setting.dictionary, setting.measurement, setting.signals), start()
    solve_adam(problem, code, 3)
    assert torch.equal(code.values, start().values) and torch.equal(code.bias, start().bias)
    solution = solve_adam(problem, code, 0)
    assert torch.equal(solution.code.values, code.values) and not solution.log


@pytest.mark.parametrize("scale", [0.0, 1e-12, 0.3])
def test_many_steps_reach_the_least_squares_solution(setting, scale):
    # From zeros, too, whose own unit would be zero.
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    best = solve_ridge(problem, SUPPORT, 0.0)
    solution = solve_adam(problem, start(scale), 600, lr=0.2)
    torch.testing.assert_close(solution.residual, best.residual, rtol=1e-2, atol=0)


def test_a_signal_does_not_depend_on_the_others(setting):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    whole = solve_adam(problem, start(), 5).code.values
    alone = solve_adam(problem.signals(slice(2, 3)), start().rows(slice(2, 3)), 5).code.values
    torch.testing.assert_close(whole[2:3], alone)


def test_no_signals(setting):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    assert solve_adam(problem.signals(slice(0, 0)), start().rows(slice(0, 0)), 2).code.values.shape == (0, 3)
