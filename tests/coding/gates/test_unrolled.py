import pytest
import torch

from nid_dist.coding.gates.unrolled import UnrolledGate
from nid_dist.coding.solvers import solve_ridge
from nid_dist.coding.solvers.problem import Problem
from nid_dist.config.schema import Gate
from nid_dist.errors import UserError

LATTICE, CHANNELS = (4, 4), 2
NUMBERS = 32


def gate(experts: int, support: int, iterations: int = 8) -> UnrolledGate:
    return UnrolledGate(
        Gate(kind="unrolled", iterations=iterations),
        experts=experts,
        channels=CHANNELS,
        grid_shape=LATTICE,
        support=support,
        generator=torch.Generator().manual_seed(0),
    ).double()


def centre(rows: torch.Tensor) -> torch.Tensor:
    values = rows.unflatten(1, (16, CHANNELS))
    return (values - values.mean(1, keepdim=True)).flatten(1)


def orthonormal(count: int) -> torch.Tensor:
    rows = torch.randn(count, NUMBERS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.linalg.qr(centre(rows).t()).Q.t().contiguous()


def coherent(count: int, spread: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    rows = [torch.randn(k, NUMBERS, generator=generator, dtype=torch.float64) for k in (1, count)]
    scales = 0.1 + torch.rand(count, 1, generator=generator, dtype=torch.float64)
    return scales * centre(rows[0] + spread * rows[1])


def synchronised(atoms: torch.Tensor, support: int, iterations: int = 8) -> tuple[UnrolledGate, torch.Tensor]:
    made = gate(len(atoms), support, iterations)
    means = torch.randn(len(atoms), CHANNELS, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    made.synchronise(atoms, means)
    return made, means


def random_signals(count: int = 20) -> torch.Tensor:
    return torch.rand(count, 16, CHANNELS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def fit(atoms: torch.Tensor, means: torch.Tensor, values: torch.Tensor, logits: torch.Tensor, bias: torch.Tensor):
    """Mean squared error of f itself: atoms are centred and divided by 4, the root of the number of pixels."""
    estimate = bias[:, None] + (logits @ (4 * atoms)).unflatten(1, (16, CHANNELS)) + (logits @ means)[:, None]
    return (estimate - values).square().mean((1, 2))


@pytest.mark.parametrize("iterations", [1, 2, 8])
@pytest.mark.parametrize("experts", [10, 30])
def test_an_orthonormal_dictionary_gets_the_best_k_code_exactly(experts, iterations):
    atoms = orthonormal(experts)
    made, means = synchronised(atoms, 4, iterations)
    values = random_signals()
    output = made(values, torch.arange(20))
    mean = values.mean(1)
    coefficients = (values - mean[:, None]).flatten(1) / 4 @ atoms.t()
    chosen = coefficients.abs().argsort(1, descending=True)[:, :4]
    expected = torch.zeros_like(coefficients).scatter(1, chosen, coefficients.gather(1, chosen))
    torch.testing.assert_close(output.logits, expected)
    torch.testing.assert_close(output.bias, mean - expected @ means)


@pytest.mark.parametrize(("experts", "support"), [(100, 1), (100, 7), (10, 10), (1, 1)])
def test_exactly_k_logits_are_not_zero(experts, support):
    made, _ = synchronised(coherent(experts, 1.0), support)
    assert ((made(random_signals(), torch.arange(20)).logits != 0).sum(1) == support).all()


@pytest.mark.parametrize("spread", [1e-3, 0.1, 1.0, 10.0])
@pytest.mark.parametrize(("experts", "support"), [(20, 8), (300, 8), (300, 100)])
def test_any_dictionary_is_stable(experts, support, spread):
    # 300 atoms in 30 dimensions, nearly equal in the first case: f is never worse than the signal's mean.
    atoms = coherent(experts, spread)
    made, means = synchronised(atoms, support)
    values = random_signals()
    output = made(values, torch.arange(20))
    variance = values.var(1, correction=0).mean(1)
    assert (fit(atoms, means, values, output.logits, output.bias) < variance).all()


def test_dead_atoms_and_flat_signals_are_finite():
    atoms = coherent(40, 1.0)
    atoms[5] = 0
    made, _ = synchronised(atoms, 6)
    values = torch.cat([random_signals(3), torch.full((2, 16, CHANNELS), 0.7, dtype=torch.float64)])
    output = made(values, torch.arange(5))
    assert torch.isfinite(output.logits).all() and not output.logits[:, 5].any()
    assert output.logits[3:].abs().max() < 1e-12
    made, _ = synchronised(torch.zeros(40, NUMBERS, dtype=torch.float64), 6)
    assert not made(values, torch.arange(5)).logits.any()


@pytest.mark.parametrize("iterations", [1, 2, 8])
def test_the_gradient_reaches_every_entry_of_every_parameter(iterations):
    made, means = synchronised(coherent(60, 1.0), 8, iterations)
    values = random_signals(100)
    output = made(values, torch.arange(100))
    fit(coherent(60, 1.0), means, values, output.logits, output.bias).mean().backward()
    for name, parameter in made.named_parameters():
        if parameter.numel():
            used = parameter.grad != 0
            assert used.all() if parameter.dim() == 1 else used.double().mean() > 0.9, name


def test_numbers_between_iterations():
    assert [tuple(p.shape) for p in (gate(9, 2, 3).steps, gate(9, 2, 3).momenta, gate(9, 2, 3).thresholds)] == [
        (3,),
        (2,),
        (2,),
    ]


def test_synchronise_keeps_what_is_learned_unless_told():
    made, means = synchronised(coherent(40, 1.0), 6)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.01)
    analysis = made.analysis.detach().clone()
    other = 2 * coherent(40, 3.0)
    made.synchronise(other, means + 1, analysis=False)
    torch.testing.assert_close(made.analysis, analysis)
    torch.testing.assert_close(made.synthesis * made.norms[:, None], other)
    torch.testing.assert_close(made.synthesis.norm(dim=1), torch.ones(40).double())
    torch.testing.assert_close(made.atom_means, means + 1)
    made.synchronise(other, means, analysis=True)
    again, _ = synchronised(other, 6)
    torch.testing.assert_close(made.analysis, again.analysis)


@pytest.mark.parametrize("experts", [20, 32, 33, 80])
def test_the_analysis_is_the_scaled_ridge_pseudo_inverse(experts):
    # (S^T S + r)^-1 S^T with r = 0.75 n / P, scaled to the largest eigenvalue 1, by the singular values of S.
    atoms = coherent(experts, 1.0)
    made, _ = synchronised(atoms, 6)
    unit = atoms / atoms.norm(dim=1, keepdim=True)
    left, singular, right = torch.linalg.svd(unit, full_matrices=False)
    ridge = 0.75 * experts / NUMBERS
    largest = singular[0] ** 2 / (singular[0] ** 2 + ridge)
    torch.testing.assert_close(made.analysis, left * (singular / (singular**2 + ridge) / largest) @ right)


@pytest.mark.parametrize(("experts", "support"), [(60, 8), (90, 6)])
def test_refinement_reduces_the_residual_and_comes_close_to_ridge(experts, support):
    atoms = coherent(experts, 100.0)
    made, means = synchronised(atoms, support)
    values = random_signals(50)

    def error() -> torch.Tensor:
        output = made(values, torch.arange(50))
        return fit(atoms, means, values, output.logits, output.bias)

    refined = error()
    logits = made(values, torch.arange(50)).logits
    with torch.no_grad():
        made.refine_steps.zero_()
        made.refine_momenta.zero_()
    coarse = error()
    assert refined.mean() < 0.8 * coarse.mean()
    zeros = torch.zeros(50, dtype=torch.float64)
    targets = centre(values.flatten(1)) / 4
    problem = Problem(atoms, targets, means, values.mean(1), zeros)
    indices = logits.abs().topk(support, dim=1).indices
    best = solve_ridge(problem, indices, 1e-6)
    assert (best.residual <= refined + 1e-9).all() and refined.mean() < 1.3 * best.residual.mean()


def test_a_grid_of_another_size_is_refused():
    made, _ = synchronised(coherent(40, 1.0), 6)
    with pytest.raises(UserError, match="the 4 x 4 grid"):
        made(torch.rand(2, 20, CHANNELS).double(), torch.arange(2))


def test_bf16_autocast():
    atoms = coherent(60, 1.0)
    made, means = synchronised(atoms, 8)
    values = random_signals()
    exact = made(values, torch.arange(20))
    made.float()
    with torch.autocast("cpu", torch.bfloat16):
        output = made(values.float(), torch.arange(20))
    errors = [fit(atoms, means, values, o.logits.double(), o.bias.double()).mean() for o in (exact, output)]
    assert errors[1] < 1.1 * errors[0]
