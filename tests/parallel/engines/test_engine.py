import copy
import math

import pytest
import torch
from torch import nn

from nid_dist.parallel.engines.engine import Engine, LocalEngine

LOSS = torch.tensor(1.0)


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def prepare(net: nn.Module, kind=torch.optim.Adam, **options) -> LocalEngine:
    groups = [{"params": list(layer.parameters())} for layer in net if isinstance(layer, nn.Linear)]
    engine = LocalEngine()
    engine.prepare([net], kind(groups, lr=0.01, fused=True, **options))
    return engine


def loss(net: nn.Module, step: int) -> torch.Tensor:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
    return 50 * (net(x) - x[:, :2]).square().mean()


@pytest.mark.parametrize("clip", [None, 0.1, 1e6])
def test_steps_equal_plain_pytorch(clip):
    net, plain = module(), module()
    engine, optimizer = prepare(net), torch.optim.Adam(plain.parameters(), lr=0.01, fused=True)
    for step in range(5):
        engine.backward(loss(net, step))
        norm = engine.step(clip, LOSS).item()
        loss(plain, step).backward()
        by_hand = math.sqrt(sum(p.grad.square().sum().item() for p in plain.parameters()))
        if clip is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        assert norm == pytest.approx(by_hand, rel=1e-5)
        assert all(p.grad is None for p in net.parameters())
    for one, other in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


def test_gradients_of_micro_batches_accumulate():
    net, plain = module(), module()
    engine = prepare(net, torch.optim.SGD)
    for part in range(4):
        engine.backward(loss(net, part) / 4)
    engine.step(None, LOSS)
    (sum(loss(plain, part) for part in range(4)) / 4).backward()
    with torch.no_grad():
        for one, other in zip(net.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other - 0.01 * other.grad)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_not_finite_changes_nothing(value, clip):
    net = module()
    engine = prepare(net)
    engine.backward(loss(net, 0))
    engine.step(clip, LOSS)
    before = copy.deepcopy(net.state_dict()), {name: t.clone() for name, t in engine.state().items()}
    engine.backward(loss(net, 1))
    net[0].weight.grad[0, 0] = value
    assert not math.isfinite(engine.step(clip, LOSS))
    assert all(torch.equal(t, before[0][name]) for name, t in net.state_dict().items())
    assert all(torch.equal(t, before[1][name]) for name, t in engine.state().items())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_changes_nothing(value):
    net = module()
    engine = prepare(net, torch.optim.AdamW, weight_decay=0.5)
    before = copy.deepcopy(net.state_dict())
    engine.backward(loss(net, 0))
    assert not math.isfinite(engine.step(1.0, torch.tensor(value)))
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert engine.state()["0.0.weight.step"] == 0


def test_a_step_without_gradients_changes_nothing():
    net = module()
    engine = prepare(net)
    before = copy.deepcopy(net.state_dict())
    assert engine.step(1.0, LOSS) == 0
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_names_of_the_state_are_complete_and_do_not_depend_on_steps():
    net = module()
    engine = prepare(net)
    keys = ("step", "exp_avg", "exp_avg_sq")
    expected = {f"0.{layer}.{part}.{key}" for layer in (0, 2) for part in ("weight", "bias") for key in keys}
    assert set(engine.state()) == expected
    engine.backward(loss(net, 0))
    engine.step(1.0, LOSS)
    state = engine.state()
    assert set(state) == expected
    assert state["0.2.bias.step"].item() == 1 and state["0.0.weight.exp_avg"].shape == (4, 3)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("stop", [0, 3])
def test_continuing_from_a_saved_state_is_exact(kind, stop):
    def train(net, engine, steps):
        for step in steps:
            # A part that is frozen at first has no gradient, and no state of its own making.
            net[0].requires_grad_(step >= 2)
            engine.backward(loss(net, step))
            engine.step(1.0, LOSS)

    whole = module()
    train(whole, prepare(whole, kind, weight_decay=0.1), range(7))

    first = module()
    engine = prepare(first, kind, weight_decay=0.1)
    train(first, engine, range(stop))
    saved = {name: t.clone() for name, t in engine.state().items()}, copy.deepcopy(first.state_dict())

    second = module()
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.zero_()
    engine = prepare(second, kind, weight_decay=0.1)
    second.load_state_dict(saved[1])
    for name, tensor in engine.state().items():
        tensor.copy_(saved[0][name])
    train(second, engine, range(stop, 7))
    assert all(torch.equal(t, whole.state_dict()[name]) for name, t in second.state_dict().items())


def test_it_is_an_engine():
    assert isinstance(LocalEngine(), Engine)
