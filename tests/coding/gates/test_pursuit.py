import numpy as np
import pytest
import torch

from nid_dist.code import Code
from nid_dist.coding.gates.pursuit import PursuitGate
from nid_dist.config.schema import Gate
from nid_dist.errors import UserError

GRID, CHANNELS = (4, 4), 2
NUMBERS = 32


def gate(experts: int, support: int, blocks: int = 8) -> PursuitGate:
    return PursuitGate(
        Gate(kind="pursuit", iterations=blocks),
        experts=experts,
        channels=CHANNELS,
        grid_shape=GRID,
        support=support,
        generator=torch.Generator().manual_seed(0),
    ).double()


def centre(rows: torch.Tensor) -> torch.Tensor:
    values = rows.unflatten(1, (16, CHANNELS))
    return (values - values.mean(1, keepdim=True)).flatten(1)


def random_atoms(count: int, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    rows = [torch.randn(k, NUMBERS, generator=generator, dtype=torch.float64) for k in (1, count)]
    scales = 0.1 + torch.rand(count, 1, generator=generator, dtype=torch.float64)
    return scales * centre((spread < 1) * rows[0] + spread * rows[1])


def synchronised(atoms: torch.Tensor, support: int, blocks: int = 8) -> tuple[PursuitGate, torch.Tensor]:
    made = gate(len(atoms), support, blocks)
    means = torch.randn(len(atoms), CHANNELS, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    made.synchronise(atoms, means)
    return made, means


def random_signals(count: int = 20) -> torch.Tensor:
    return torch.rand(count, 16, CHANNELS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def fit(atoms: torch.Tensor, means: torch.Tensor, values: torch.Tensor, logits: torch.Tensor, bias: torch.Tensor):
    """Mean squared error of f itself: atoms are centred and divided by 4, the root of the number of pixels."""
    estimate = bias[:, None] + (logits @ (4 * atoms)).unflatten(1, (16, CHANNELS)) + (logits @ means)[:, None]
    return (estimate - values).square().mean((1, 2))


def dense_pursuit(atoms: np.ndarray, expected: np.ndarray, y: np.ndarray, sizes: list[int], k: int) -> np.ndarray:
    """The gate's search, an atom and a least-squares fit after the other."""
    unit = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)

    def refit(chosen: list[int]) -> np.ndarray:
        rows = unit[chosen]
        return np.linalg.solve(rows @ rows.T + 1e-5 * np.eye(len(chosen)), rows @ y)

    support: list[int] = []
    for size in sizes:
        scores = np.abs(unit @ (y - refit(support) @ unit[support])) if support else np.abs(expected @ y)
        scores[support] = -1
        support += list(np.argsort(-scores)[:size])

    def energy(chosen: list[int]) -> float:
        return float(y @ unit[chosen].T @ refit(chosen))

    # How much is lost without each, by leaving it out.
    lost = [energy(support) - energy([other for other in support if other != one]) for one in support]
    kept = [support[place] for place in np.argsort(-np.array(lost))[:k]]
    code = np.zeros(len(atoms))
    code[kept] = refit(kept) / np.linalg.norm(atoms[kept], axis=1)
    return code


@pytest.mark.parametrize(("experts", "support", "blocks"), [(60, 8, 4), (60, 8, 1), (40, 6, 3), (20, 20, 4), (9, 8, 2)])
def test_it_is_a_pursuit_in_blocks_that_leaves_out_what_is_needed_least(experts, support, blocks):
    atoms = random_atoms(experts)
    made, means = synchronised(atoms, support, blocks)
    values = random_signals()
    output = made(values, torch.arange(20))
    targets = centre(values.flatten(1)).numpy() / 4
    for place in range(20):
        code = dense_pursuit(atoms.numpy(), made.analysis.numpy(), targets[place], made.sizes, support)
        np.testing.assert_allclose(output.logits[place].numpy(), code, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(output.bias, values.mean(1) - output.logits @ means)


def test_it_chooses_a_quarter_more_than_it_keeps():
    assert gate(60, 8, 4).sizes == [3, 3, 2, 2] and gate(60, 8, 1).sizes == [8] and gate(9, 8, 2).sizes == [5, 4]


@pytest.mark.parametrize("blocks", [1, 2, 8])
def test_an_orthonormal_dictionary_gets_the_best_k_code(blocks):
    atoms = torch.linalg.qr(random_atoms(10).t()).Q.t().contiguous()
    made, _ = synchronised(atoms, 4, blocks)
    values = random_signals()
    coefficients = centre(values.flatten(1)) / 4 @ atoms.t()
    chosen = coefficients.abs().argsort(1, descending=True)[:, :4]
    best = torch.zeros_like(coefficients).scatter(1, chosen, coefficients.gather(1, chosen))
    torch.testing.assert_close(made(values, torch.arange(20)).logits, best / (1 + 1e-5))


@pytest.mark.parametrize("experts", [20, 80])
def test_the_analysis_expects_the_code_of_independent_coefficients(experts):
    """E[a | y] = C S (S^T C S + r)^-1 y, by the joint normal of coefficients and signal."""
    atoms = random_atoms(experts)
    made = gate(experts, 4)
    with torch.no_grad():
        made.spread.normal_(generator=torch.Generator().manual_seed(9))
    made.synchronise(atoms, torch.zeros(experts, CHANNELS, dtype=torch.float64))
    norms = atoms.norm(dim=1)
    unit, variances = (atoms / norms[:, None]).numpy(), (made.log_variances.exp() * norms**2).detach().numpy()
    covariance = unit.T @ np.diag(variances) @ unit
    noise = 0.05 * np.trace(covariance) / NUMBERS
    expected = np.diag(variances) @ unit @ np.linalg.inv(covariance + noise * np.eye(NUMBERS))
    np.testing.assert_allclose(made.analysis.numpy(), expected, rtol=1e-7, atol=1e-10)


def test_learned_variances_find_atoms_that_are_used():
    """Of pairs of atoms that are nearly alike, one is used: who knows it, chooses it."""
    generator = torch.Generator().manual_seed(5)
    base = centre(torch.randn(15, NUMBERS, generator=generator, dtype=torch.float64))
    other = centre(base + 0.35 * torch.randn(15, NUMBERS, generator=generator, dtype=torch.float64))
    atoms = torch.cat([base, other])
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    codes = torch.zeros(200, 30, dtype=torch.float64)
    for row in codes:
        row[torch.randperm(15, generator=generator)[:6]] = torch.randn(6, generator=generator, dtype=torch.float64)
    values = 0.5 + (codes @ (4 * atoms)).unflatten(1, (16, CHANNELS))
    made, means = synchronised(atoms, 6, 1)

    def error() -> torch.Tensor:
        output = made(values, torch.arange(200))
        return fit(atoms, means, values, output.logits, output.bias).mean()

    before = error()
    solved = Code(codes.gather(1, codes.abs().topk(6).indices), torch.zeros(200, 2), codes.abs().topk(6).indices)
    optimiser = torch.optim.Adam(made.parameters(), lr=5e-3)
    for _ in range(300):
        optimiser.zero_grad()
        made.unlikelihood(solved, codes.square().mean()).backward()
        optimiser.step()
    made.synchronise(atoms, means)
    assert error() < 0.5 * before
    found = made.log_variances.detach().exp()
    square = codes.square().mean(0) / codes.square().mean() + 1e-3
    torch.testing.assert_close(found[:15], square[:15], rtol=0.1, atol=0)
    assert (found[15:] < 0.05).all()


def test_unlikelihood_by_hand_and_in_pieces():
    made = gate(3, 1)
    with torch.no_grad():
        made.spread.copy_(torch.tensor([0.1, -0.2, 0.0]))
    solved = Code(torch.tensor([[2.0], [4.0]]).double(), torch.zeros(2, CHANNELS).double(), torch.tensor([[0], [2]]))
    square = torch.tensor((4 + 16) / 6, dtype=torch.float64)
    relative = np.array([2.0, 0.0, 8.0]) / square.item() + 1e-3
    logs = 4 * np.array([0.1, -0.2, 0.0])
    assert made.unlikelihood(solved, square).item() == pytest.approx(0.5 * (logs + relative * np.exp(-logs)).mean())
    parts = [made.unlikelihood(solved.rows(slice(i, i + 1)), square).item() for i in range(2)]
    assert np.mean(parts) == pytest.approx(made.unlikelihood(solved, square).item())
    (gradient,) = torch.autograd.grad(made.unlikelihood(solved, square), [made.spread])
    step = 1e-6
    for place in range(3):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                made.spread[place] += sign * step
                ends.append(made.unlikelihood(solved, square).item())
                made.spread[place] -= sign * step
        assert gradient[place].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("spread", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize(("experts", "support"), [(20, 8), (300, 8), (300, 100)])
def test_any_dictionary_is_stable(experts, support, spread):
    # 300 atoms in 30 dimensions, nearly equal in the first case: f is never worse than the signal's mean.
    atoms = random_atoms(experts, spread)
    values = random_signals()
    for kind in (torch.float64, torch.float32):
        made, means = synchronised(atoms, support)
        output = made.to(kind)(values.to(kind), torch.arange(20))
        assert ((output.logits != 0).sum(1) <= support).all()
        error = fit(atoms, means, values, output.logits.double(), output.bias.double())
        assert (error < values.var(1, correction=0).mean(1)).all()


def test_dead_atoms_and_flat_signals_are_finite():
    atoms = random_atoms(40)
    atoms[5] = 0
    made, _ = synchronised(atoms, 6)
    values = torch.cat([random_signals(3), torch.full((2, 16, CHANNELS), 0.7, dtype=torch.float64)])
    output = made(values, torch.arange(5))
    assert torch.isfinite(output.logits).all() and not output.logits[:, 5].any()
    assert output.logits[3:].abs().max() < 1e-12
    made, _ = synchronised(torch.zeros(40, NUMBERS, dtype=torch.float64), 6)
    assert not made(values, torch.arange(5)).logits.any()
    assert made(values[:0], torch.arange(0)).logits.shape == (0, 40)


def test_signals_in_parts_are_signals_together(monkeypatch: pytest.MonkeyPatch):
    made, _ = synchronised(random_atoms(60), 8)
    values = random_signals()
    together = made(values, torch.arange(20))
    monkeypatch.setattr("nid_dist.coding.gates.pursuit._FLOATS", 1)
    torch.testing.assert_close(made(values, torch.arange(20)).logits, together.logits)


def test_a_grid_of_another_size_is_refused():
    made, _ = synchronised(random_atoms(40), 6)
    with pytest.raises(UserError, match="the 4 x 4 grid"):
        made(torch.rand(2, 20, CHANNELS).double(), torch.arange(2))


def test_it_computes_in_full_precision_whatever_surrounds_it():
    made, _ = synchronised(random_atoms(60), 8)
    made.float()
    values = random_signals().float()
    exact = made(values, torch.arange(20))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(made(values, torch.arange(20)).logits, exact.logits)


def test_values_of_what_is_kept_are_the_best_of_these_alone():
    """Removal from a least-squares fit against fits anew."""
    made, _ = synchronised(random_atoms(12), 4, 2)
    values = random_signals(5)
    logits = made(values, torch.arange(5)).logits
    targets = centre(values.flatten(1)) / 4
    for place in range(5):
        chosen = logits[place].nonzero()[:, 0]
        rows = made.synthesis[chosen]
        system = rows @ rows.t() + 1e-5 * torch.eye(len(chosen), dtype=torch.float64)
        best = torch.linalg.solve(system, rows @ targets[place]) / made.norms[chosen]
        torch.testing.assert_close(logits[place, chosen], best)
