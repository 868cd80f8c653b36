"""Networks per signal: what they compute, what they cost, and that they fit values, measurements and any loss."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nid_dist.baselines.config import Inr, load_baseline
from nid_dist.baselines.inr import Baseline, Network
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs" / "baselines"
SIREN = Inr(kind="siren", width=32, hidden_layers=1, lr=2e-3, schedule="cosine")
FFM = Inr(kind="ffm", width=32, hidden_layers=1, features=16, scale=1.0, lr=5e-3, output="sigmoid", schedule="cosine")


def test_a_siren_is_the_papers_formula() -> None:
    network = Network(Inr(kind="siren", width=8, hidden_layers=2, omega=20, first_omega=10, output="unit"), 3, 2)
    x = torch.rand(5, 3)
    first, second, third, last = network.layers
    h = torch.sin(10 * (x @ first.weight.t() + first.bias))
    for layer in (second, third):
        h = torch.sin(20 * (h @ layer.weight.t() + layer.bias))
    torch.testing.assert_close(network(x), 0.5 + 0.5 * (h @ last.weight.t() + last.bias))
    # Section 3.2: U(-1/in, 1/in), then U(+-sqrt(6/in)/omega).
    assert first.weight.abs().max() <= 1 / 3 and second.weight.abs().max() <= math.sqrt(6 / 8) / 20


def test_fourier_features_have_the_papers_frequencies() -> None:
    network = Network(Inr(kind="ffm", width=8, hidden_layers=1, features=2000, scale=10, output="sigmoid"), 2, 3)
    # gamma(v) = [sin 2 pi B v, cos 2 pi B v], v in [0, 1]: pi B per unit of x in [-1, 1].
    basis = network.encoding.basis / math.pi
    assert basis.shape == (2000, 2) and basis.std().item() == pytest.approx(10, rel=0.05)
    assert network(torch.rand(4, 2)).shape == (4, 3)


@pytest.mark.parametrize("config", [SIREN, FFM], ids=["siren", "ffm"])
def test_costs_are_those_that_torch_counts(config: Inr) -> None:
    network = Network(config, 2, 3)
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(50, 2))
    assert 2 * 50 * network.macs_per_coordinate == counter.get_total_flops()
    assert network.parameters_count == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("config", [SIREN, FFM], ids=["siren", "ffm"])
def test_values_are_fitted(config: Inr) -> None:
    coords = coordinate_grid((12, 12))
    values = 0.5 + 0.3 * torch.stack([torch.sin(3 * coords[:, 0]), torch.cos(2 * coords[:, 1])], 1)
    fitted = Baseline(config).fit(coords, values, steps=300)
    assert (fitted.render(coords) - values).square().mean() < 1e-3
    assert fitted.steps == 300 and fitted.trace[-1][0] == fitted.seconds > 0
    again = Baseline(config).fit(coords, values, steps=300)
    assert torch.equal(again.render(coords), fitted.render(coords))


def test_what_has_no_weight_is_not_looked_at() -> None:
    coords = coordinate_grid((10, 10))
    values = torch.full((100, 1), 0.25)
    weights = torch.ones(100)
    values[::3], weights[::3] = math.nan, 0.0
    fitted = Baseline(SIREN.model_copy(update={"batch": 16})).fit(coords, values, weights=weights, steps=200)
    assert (fitted.render(coords[weights > 0]) - 0.25).abs().max() < 0.02


def test_weights_weigh() -> None:
    """Two values at one point: the weighted mean is the least-squares solution."""
    coords, values = torch.zeros(2, 1), torch.tensor([[0.0], [1.0]])
    fitted = Baseline(SIREN).fit(coords, values, weights=torch.tensor([1.0, 3.0]), steps=300)
    assert fitted.render(coords)[0].item() == pytest.approx(0.75, abs=1e-3)


def test_measurements_are_fitted() -> None:
    """Means of f over pairs of coordinates; and the minimum of a value's loss and a penalty on it."""
    measured, coords = torch.linspace(0, 1, 6)[:, None], coordinate_grid((12,))

    def misfit(network: Network) -> Tensor:
        return (network(coords).unflatten(0, (6, 2)).mean(1) - measured).square().mean()

    fitted = Baseline(SIREN).minimise(misfit, 1, 1, steps=300)
    means = fitted.render(coords).unflatten(0, (6, 2)).mean(1)
    assert (means - measured).abs().max() < 0.02

    def penalised(network: Network) -> Tensor:
        value = network(torch.zeros(1, 1))
        return (value - 1).square().mean() + value.square().mean()

    drawn = Baseline(SIREN).minimise(penalised, 1, 1, steps=300)
    assert drawn.render(torch.zeros(1, 1)).item() == pytest.approx(0.5, abs=1e-3)


def test_any_loss_is_fitted_with_derivatives() -> None:
    """f'(x) = 2 and f(0) = 1."""

    def loss(network: Network) -> Tensor:
        x = coordinate_grid((9,)).requires_grad_()
        slope = torch.autograd.grad(network(x).sum(), x, create_graph=True)[0]
        return (slope - 2).square().mean() + (network(torch.zeros(1, 1)) - 1).square().mean()

    config = SIREN.model_copy(update={"first_omega": 3.0, "omega": 5.0})
    fitted = Baseline(config).minimise(loss, 1, 1, steps=400)
    x = coordinate_grid((9,))
    assert (fitted.render(x) - (1 + 2 * x)).abs().max() < 0.1


def test_it_stops_by_clock_and_by_figure() -> None:
    coords, values = coordinate_grid((8, 8)), torch.full((64, 1), 0.5)
    seen: list[float] = []

    def watch(network: Network) -> float:
        seen.append(-float((network(coords) - values).square().mean()))
        return seen[-1]

    fitted = Baseline(SIREN).fit(coords, values, steps=10_000, watch=watch, until=-1e-3)
    assert fitted.steps < 10_000 and seen[-1] >= -1e-3 and all(figure < -1e-3 for figure in seen[:-1])
    assert [figure for _, figure in fitted.trace] == seen
    short = Baseline(SIREN).fit(coords, values, steps=10**9, max_seconds=0.05)
    assert 0.05 <= short.seconds < 1


def test_a_start_is_taken() -> None:
    start = Network(SIREN, 2, 1, torch.Generator().manual_seed(7))
    fitted = Baseline(SIREN, start.state_dict()).fit(coordinate_grid((4, 4)), torch.zeros(16, 1), steps=0)
    x = torch.rand(5, 2)
    torch.testing.assert_close(fitted.render(x), start(x).detach())


def test_shipped_configurations_load() -> None:
    found = {path.stem: load_baseline(path) for path in CONFIGS.glob("*.yaml")}
    assert {"siren", "ffm"} <= found.keys()
    assert found["siren"].kind == "siren" and found["ffm"].kind == "ffm"
    # 2 -> 256 -> 256 -> 256 -> 256 -> 3 with offsets.
    assert Network(found["siren"], 2, 3).parameters_count == 3 * 256 + 3 * 257 * 256 + 257 * 3


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("kind: siren\nwidht: 3\n")
    with pytest.raises(UserError, match="unknown key widht.*write width"):
        load_baseline(path)
    path.write_text("width: 3\n")
    with pytest.raises(UserError, match="kind: found nothing, expected one of siren, ffm"):
        load_baseline(path)
