"""A learned start: MAML's gradient by hand, better than random after few steps, and kept."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from nid_dist.baselines.config import Inr, Meta, load_baseline
from nid_dist.baselines.inr import Baseline, Network
from nid_dist.baselines.meta import learn_start, learned_start, read_start
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.errors import UserError

CONFIG = Path(__file__).parents[2] / "configs" / "baselines" / "meta.yaml"
COORDS = coordinate_grid((6, 6))


def config(algorithm: str, **changes: object) -> Inr:
    meta = Meta.model_validate({"algorithm": algorithm, "outer_steps": 120, "outer_lr": 3e-3, "batch": 2} | changes)
    return Inr(
        kind="siren",
        width=16,
        hidden_layers=1,
        omega=10,
        first_omega=10,
        optimizer="sgd",
        lr=0.1,
        output="unit",
        meta=meta,
    )


def waves(step: int) -> Tensor:
    """Two of a family of signals: one wave of any height and phase."""
    draws = torch.Generator().manual_seed(step)
    height, phase = torch.rand(2, 1, 1, generator=draws), torch.rand(2, 1, 1, generator=draws)
    return 0.5 + 0.4 * height * torch.sin(2 * COORDS[:, :1] + phase)


@pytest.mark.parametrize(("algorithm", "rate"), [("maml", 3e-3), ("reptile", 2e-2)])
def test_few_steps_are_enough_from_a_learned_start(algorithm: str, rate: float) -> None:
    made = config(algorithm, outer_lr=rate)
    start = learn_start(made, COORDS, 1, waves)
    values = waves(10_000)[0]
    errors = [
        (Baseline(made, weights).fit(COORDS, values, steps=3).render(COORDS) - values).square().mean()
        for weights in (None, start)
    ]
    assert errors[1] < 0.3 * errors[0]


def test_the_first_outer_step_follows_the_gradient_through_the_inner_one() -> None:
    """Adam's first step is the sign of the gradient: that of L(w - lr L'(w)), taken by finite differences."""
    made = config("maml", outer_steps=1, inner_steps=1, batch=1)
    assert made.meta is not None
    values = waves(0)[:1]
    start = learn_start(made, COORDS, 1, lambda _: values)
    network = Network(made, 2, 1).double()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}

    def after_a_step(name: str, shift: float) -> float:
        weights = {key: value.clone() for key, value in before.items()}
        weights[name].view(-1)[0] += shift
        network.load_state_dict(weights)
        loss = (network(COORDS.double()) - values[0].double()).square().mean()
        slopes = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, slope in zip(network.parameters(), slopes, strict=True):
                parameter -= made.lr * slope
            return float((network(COORDS.double()) - values[0].double()).square().mean())

    for name in before:
        slope = (after_a_step(name, 1e-4) - after_a_step(name, -1e-4)) / 2e-4
        moved = float(start[name].view(-1)[0] - before[name].view(-1)[0])
        assert moved == pytest.approx(-made.meta.outer_lr * (1 if slope > 0 else -1), rel=0.05)


def test_it_is_learned_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, made = tmp_path / "runs" / "meta.safetensors", config("reptile", outer_steps=2)
    first = learned_start(made, COORDS, 1, waves, path)
    assert "learning the start of meta" in capsys.readouterr().err
    again = learned_start(made, COORDS, 1, lambda _: pytest.fail("learned again"), path)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(read_start(made, path)["layers.0.weight"], first["layers.0.weight"])
    with pytest.raises(UserError, match="learned by another configuration"):
        learned_start(config("reptile", outer_steps=3), COORDS, 1, waves, path)
    with pytest.raises(UserError, match="learned by another configuration"):
        learned_start(made, coordinate_grid((3, 3)), 1, waves, path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="a damaged file"):
        read_start(made, path)


def test_it_needs_plain_steps(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("kind: siren\nmeta: {}\n")
    with pytest.raises(UserError, match="plain gradient steps"):
        load_baseline(path)
    assert load_baseline(CONFIG).meta is not None
