"""The losses, against dense formulas, and whole batches against the same batch in pieces."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.gates.base import GateOutput
from nid_dist.config import Config, load_config
from nid_dist.config.schema import Phase
from nid_dist.model import Model
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.samples import Batch, Samples
from nid_dist.training.losses import LOSSES, average, code_regression, prepare

SIGNALS, SIDE, N, K = 8, 6, 12, 3
ALONE = World(Topology(N))
BASE = [
    f"dictionary.experts={N}",
    "dictionary.width=10",
    "dictionary.private_width=5",
    "dictionary.encoding={kind: fourier, features: 6, scale: 3}",
    f"coding={{support: {K}, blocks: {K}, gate: {{kind: light, width: 4}}}}",
    "signals.patch=6",
]


NO_GATE = ["coding.gate.kind=none", "coding.phases=[{mode: solve}]"]


def made(*overrides: str) -> tuple[Config, Model, Batch]:
    config = load_config(None, [*BASE, *overrides])
    model = Model(config, channels=3, grid_shape=(SIDE, SIDE), signals=SIGNALS).double()
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(SIGNALS, SIDE * SIDE, 3, generator=generator, dtype=torch.float64)
    model.synchronise_gate()
    return config, model, Batch(Samples(model.coords, values), torch.arange(SIGNALS), torch.arange(5, 5 + SIGNALS))


def piece(batch: Batch, part: slice) -> Batch:
    return Batch(
        batch.samples.rows(part), batch.ids[part], batch.noise_seeds[part], 1.0, lambda: batch.gate_input[part]
    )


def subset_of(batch: Batch, chosen: Tensor) -> Batch:
    """Only some coordinates count, but a gate sees all."""
    return replace(batch, samples=batch.samples.at(chosen), make_gate_input=lambda: batch.samples.values)


def gradients(model: Model, batches: list[Batch], config: Config, mode: str, warm: bool) -> tuple[float, list[Tensor]]:
    """As the trainer goes about it."""
    model.zero_grad(set_to_none=True)
    prepared = [prepare(model, b, config, mode, warm=warm, alone=len(batches) == 1) for b in batches]
    shared = average([each.statistics for each in prepared], [1.0] * len(prepared), ALONE)
    losses = [LOSSES[mode](model, each, shared, config, ALONE) for each in prepared]
    total = torch.stack([loss.total for loss in losses]).sum() / len(batches)
    total.backward()
    return total.item(), [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


def dense_f(model: Model, code: Code, coords: Tensor) -> Tensor:
    zeros = torch.zeros(code.signals, N, dtype=torch.float64)
    alpha = code.values if code.indices is None else zeros.scatter(1, code.indices, code.values)
    return torch.einsum("tn,ncd->tcd", alpha, model.dictionary.atoms(coords)) + code.bias[:, None]


def test_every_mode_of_the_configuration_has_a_loss() -> None:
    assert set(LOSSES) == set(Phase.model_json_schema()["properties"]["mode"]["enum"])


@pytest.mark.parametrize("mode", ["gate", "warm", "solve", "distill"])
@pytest.mark.parametrize("kind", ["light", "conv", "resnet", "codebook", "unrolled"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_batch_in_pieces_has_the_loss_and_gradients_of_the_whole(mode: str, kind: str, layers: int) -> None:
    subset = torch.arange(0, SIDE * SIDE, 3)
    overrides = [f"coding.gate.kind={kind}", f"dictionary.private_layers={layers}", "objective.balance=0.5"]
    config, model, batch = made(*overrides)
    batch = subset_of(batch, subset)
    pieces = [piece(batch, slice(first, first + 2)) for first in range(0, SIGNALS, 2)]
    warm, mode = mode == "warm", "gate" if mode == "warm" else mode
    whole_loss, whole = gradients(model, [batch], config, mode, warm)
    loss, summed = gradients(model, pieces, config, mode, warm)
    assert loss == pytest.approx(whole_loss, rel=1e-9)
    largest = max(float(g.abs().max()) for g in whole)
    assert largest > 0
    for one, other in zip(whole, summed, strict=True):
        assert float((one - other).abs().max()) <= 1e-9 * largest


@pytest.mark.parametrize("importance", ["absolute", "signed"])
def test_gate_loss_is_data_plus_balance(importance: str) -> None:
    config, model, batch = made("objective.balance=0.25", f"objective.importance={importance}")
    loss = LOSSES["gate"](model, prepare(model, batch, config, "gate", warm=False, alone=True), {}, config, ALONE)
    alpha = loss.code.dense(N).detach().numpy()
    assert ((alpha != 0).sum(1) == K).all()
    data = (dense_f(model, loss.code, model.coords) - batch.samples.values).square().mean().item()
    usage = (np.abs(alpha) if importance == "absolute" else alpha).sum(0)
    balance = usage.var() / usage.mean() ** 2
    assert loss.parts["data"] == pytest.approx(data)
    assert loss.parts["balance"] == pytest.approx(balance, rel=1e-6)
    assert loss.total.item() == pytest.approx(data + 0.25 * balance, rel=1e-6)


def test_warm_up_is_dense_with_a_penalty() -> None:
    config, model, batch = made("objective.balance=0", "objective.l1=2")
    loss = LOSSES["gate"](model, prepare(model, batch, config, "gate", warm=True, alone=True), {}, config, ALONE)
    logits = model.gate_output(batch.samples.values, batch.ids).logits
    assert loss.code.indices is None and torch.equal(loss.code.values, logits)
    data = (dense_f(model, loss.code, model.coords) - batch.samples.values).square().mean().item()
    assert loss.total.item() == pytest.approx(data + 2 * logits.abs().mean().item())


def test_noisy_top_k_adds_the_load_and_repeats_with_its_seed() -> None:
    config, model, batch = made("coding.gate.noisy=true")
    prepared = prepare(model, batch, config, "gate", warm=False, alone=True)
    first, second = (LOSSES["gate"](model, prepared, {}, config, ALONE) for _ in range(2))
    assert first.total.item() == second.total.item()
    other = replace(batch, noise_seeds=batch.noise_seeds + 100)
    third = LOSSES["gate"](model, prepare(model, other, config, "gate", warm=False, alone=True), {}, config, ALONE)
    assert third.total.item() != first.total.item()
    silent = load_config(None, BASE)
    plain = LOSSES["gate"](model, prepare(model, batch, silent, "gate", warm=False, alone=True), {}, silent, ALONE)
    assert plain.code.indices is not None and first.code.indices is not None
    assert not torch.equal(plain.code.values, first.code.values)


def test_noise_does_not_depend_on_how_the_batch_is_cut() -> None:
    config, model, batch = made("coding.gate.noisy=true", "objective.balance=0.5")
    pieces = [piece(batch, slice(first, first + 2)) for first in range(0, SIGNALS, 2)]
    whole_loss, whole = gradients(model, [batch], config, "gate", False)
    loss, summed = gradients(model, pieces, config, "gate", False)
    assert loss == pytest.approx(whole_loss)
    for found, expected in zip(summed, whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_noisy_top_k_of_a_single_expert_is_finite() -> None:
    config, model, batch = made("coding.gate.noisy=true", "dictionary.experts=1", "coding.support=1")
    loss = LOSSES["gate"](model, prepare(model, batch, config, "gate", warm=False, alone=True), {}, config, ALONE)
    assert torch.isfinite(loss.total)


@pytest.mark.parametrize("layers", [1, 2])
def test_solve_loss_is_the_least_squares_error_and_its_gradient_that_of_the_minimum(layers: int) -> None:
    config, model, batch = made(*NO_GATE, f"dictionary.private_layers={layers}", "coding.ridge=0")
    prepared = prepare(model, batch, config, "solve", warm=False, alone=True)
    loss = LOSSES["solve"](model, prepared, {}, config, ALONE)
    assert loss.code.indices is not None and not loss.code.values.requires_grad

    def minimum() -> float:
        """Least squares on the same support, with a constant column per channel, by numpy."""
        atoms = model.dictionary.atoms(model.coords).detach().numpy()
        error = 0.0
        for values, support in zip(batch.samples.values.numpy(), loss.code.indices.numpy(), strict=True):
            ones = np.kron(np.ones((SIDE * SIDE, 1)), np.eye(3))
            design = np.concatenate([atoms[support].reshape(K, -1).T, ones], 1)
            solution = np.linalg.lstsq(design, values.reshape(-1), rcond=None)[0]
            error += float(np.mean((design @ solution - values.reshape(-1)) ** 2)) / SIGNALS
        return error

    assert loss.total.item() == pytest.approx(minimum(), rel=1e-6)
    loss.total.backward()
    parameter = model.dictionary.trunk.layers[-1].weight
    slope = float(parameter.grad[1, 2])
    with torch.no_grad():
        parameter[1, 2] += 1e-5
        above = minimum()
        parameter[1, 2] -= 2e-5
        below = minimum()
    assert slope == pytest.approx((above - below) / 2e-5, rel=1e-3)


def test_gate_of_solve_mode_learns_the_solved_codes_without_touching_the_dictionary() -> None:
    config, model, batch = made()
    prepared = prepare(model, batch, config, "solve", warm=False, alone=True)
    with_gate = LOSSES["solve"](model, prepared, prepared.statistics, config, ALONE)
    with_gate.total.backward()
    joint = model.dictionary.experts.rows.grad.clone()
    assert all(p.grad is not None for p in model.gate.parameters())
    bare, alone, _ = made(*NO_GATE)
    alone.dictionary.load_state_dict(model.dictionary.state_dict())
    LOSSES["solve"](
        alone, prepare(alone, batch, bare, "solve", warm=False, alone=True), {}, bare, ALONE
    ).total.backward()
    torch.testing.assert_close(joint, alone.dictionary.experts.rows.grad)
    output, code = model.gate_output(batch.samples.values, batch.ids), with_gate.code
    target = code.dense(N)
    expected = (output.logits - target).square().mean() / target.square().mean()
    expected = expected + (output.bias - code.bias).square().mean() / code.bias.square().mean()
    assert with_gate.parts["distill"] == pytest.approx(expected.item())


@pytest.mark.parametrize(("kind", "distill"), [("unrolled", 1.0), ("light", 0.0)])
def test_distillation_by_what_f_gives_alone(kind: str, distill: float) -> None:
    config, model, batch = made(f"coding.gate.kind={kind}", f"objective.distill={distill}")
    prepared = prepare(model, batch, config, "distill", warm=False, alone=True)
    assert prepared.solved is None
    loss = LOSSES["distill"](model, prepared, prepared.statistics, config, ALONE)
    error = (dense_f(model, loss.code, model.coords) - batch.samples.values).square().mean()
    variance = np.var(batch.samples.values.numpy())
    assert loss.total.item() == pytest.approx(error.item() / variance)
    assert loss.parts == {"data": pytest.approx(error.item())}


def test_a_flat_batch_gives_a_finite_distillation_loss() -> None:
    config, model, batch = made()
    flat = replace(batch, samples=Samples(model.coords, torch.full_like(batch.samples.values, 0.5)))
    prepared = prepare(model, flat, config, "distill", warm=False, alone=True)
    assert torch.isfinite(LOSSES["distill"](model, prepared, prepared.statistics, config, ALONE).total)


def test_code_regression_by_hand() -> None:
    solved = Code(torch.tensor([[2.0], [4.0]]), torch.tensor([[1.0], [3.0]]), torch.tensor([[0], [2]]))
    square, bias = torch.tensor((4 + 16) / 6), torch.tensor((1 + 9) / 2)
    same = GateOutput(torch.tensor([[2.0, 0, 0], [0, 0, 4.0]]), torch.tensor([[1.0], [3.0]]))
    nothing = GateOutput(torch.zeros(2, 3), torch.zeros(2, 1))
    off = GateOutput(torch.tensor([[2.0, 1, 0], [0, 0, 4.0]]), torch.tensor([[1.0], [2.0]]))
    assert code_regression(same, solved, square, bias).item() == 0
    assert code_regression(nothing, solved, square, bias).item() == pytest.approx(2)
    assert code_regression(off, solved, square, bias).item() == pytest.approx(1 / 20 + 1 / 10)


def test_average_of_statistics() -> None:
    parts = [{"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([3.0, 6.0])}]
    assert torch.equal(average(parts, [1.0] * len(parts), ALONE)["a"], torch.tensor([2.0, 4.0]))
    assert average([{}, {}], [1.0, 1.0], ALONE) == {}


def test_coordinates_that_are_not_drawn_do_not_count() -> None:
    config, model, batch = made(*NO_GATE)
    subset = torch.tensor([0, 7, 20, 35])
    changed = batch.samples.values.clone()
    changed[:, 1] = 0.0
    codes = []
    for values in (batch.samples.values, changed):
        drawn = subset_of(replace(batch, samples=Samples(model.coords, values)), subset)
        prepared = prepare(model, drawn, config, "solve", warm=False, alone=True)
        codes.append(LOSSES["solve"](model, prepared, {}, config, ALONE).total.item())
    assert codes[0] == codes[1]


def test_a_clamped_loss_forgives_what_is_far() -> None:
    """DeepSDF's: |clamp(f) - clamp(d)|, by hand."""
    from nid_dist.training.losses import _data_loss

    found, target = torch.tensor([[[3.0], [0.5], [-2.0]]]), torch.tensor([[[1.0], [0.25], [1.0]]])
    samples = Samples(torch.zeros(3, 2), target)
    cut, plain = (load_config(None, ["objective.loss=l1", *more]) for more in (["objective.clamp=1.0"], []))
    assert _data_loss(found, samples, cut).item() == pytest.approx((0 + 0.25 + 2) / 3)
    assert _data_loss(found, samples, plain).item() == pytest.approx((2 + 0.25 + 3) / 3)
