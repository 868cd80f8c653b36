"""One small training that every engine must do alike: the same losses, norms, parameters and moments as one process."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from nid_dist.code import Code
from nid_dist.coding.gates import make_gate
from nid_dist.coding.topk import signed_top_k
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.config.schema import Gate as GateConfig
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.parallel.engines.engine import Engine
from nid_dist.parallel.exchange.exchange import Exchange
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World

N, K, D, SIDE, BATCH, ACCUMULATION, STEPS = 8, 3, 2, 4, 6, 2, 20
MIDDLE = 10  # while the gate alone is trained, after a part of it was frozen
DIVERGED = 5  # the step that is tried first with gradients that are not finite
EMPTY = 3  # the step whose micro-batches are too small for four ranks

Numbers = dict[str, torch.Tensor]


class SmallModel(nn.Module):
    """A gate, replicated, a trunk, replicated, and experts, sharded."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        config = DictionaryConfig(experts=N, width=5, shared_layers=2, encoding=Encoding(features=6))
        self.dictionary = Dictionary(config, 2, D, generator, exchange)
        self.gate = make_gate(
            GateConfig(width=4),
            experts=N,
            channels=D,
            grid_shape=(SIDE, SIDE),
            signals=0,
            support=K,
            generator=generator,
        )

    def loss(self, signals: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:
        """The sum over signals."""
        if len(signals):
            output = self.gate(signals, torch.zeros(len(signals), dtype=torch.long))
            code = signed_top_k(output.logits, output.bias, K)
        else:  # without signals the gate has no part in the loss
            values = torch.zeros(0, K, requires_grad=True)  # the exchange still has to go both ways
            code = Code(values, torch.zeros(0, D), torch.zeros(0, K, dtype=torch.long))
        return 20 * (self.dictionary(code, coords) - signals).square().mean((1, 2)).sum()


def make(world: World, engine: Engine) -> SmallModel:
    """A model, and the engine prepared for it, while a part of it happens to be frozen."""
    model = SmallModel(world.exchange)
    parts = {"experts": model.dictionary.experts, "trunk": model.dictionary.trunk, "gate": model.gate}
    groups = [
        {"params": list(part.parameters()), "name": name, "sharded": name == "experts"} for name, part in parts.items()
    ]
    model.gate.requires_grad_(False)
    # A large eps: GroupNorm undoes some biases, whose gradients are rounding errors that Adam would blow up.
    engine.prepare([model], torch.optim.AdamW(groups, lr=1.0, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1, fused=True))
    return model


def train(model: SmallModel, engine: Engine, world: World, steps: Iterable[int], clip: float | None = 2.0) -> Numbers:
    """Some of the steps; mean losses over ranks, and the norms."""
    axis = torch.linspace(-1, 1, SIDE)
    coords = torch.cartesian_prod(axis, axis)
    losses, norms = [], []
    for step in steps:
        model.dictionary.requires_grad_(step not in range(7, 12))
        model.gate.requires_grad_(step not in range(12, 16))
        if step in (8, 9):  # a group that is frozen in part, whose step counts differ from then on
            next(model.gate.parameters()).requires_grad_(False)
        for group in engine.param_groups:
            group["lr"] = {"experts": 1e-2, "trunk": 3e-3, "gate": 5e-3}[group["name"]] * (1 - step / 40)
        if step == DIVERGED:
            micro_batches(model, engine, world, step, coords, float("inf"))
            assert not engine.step(clip, torch.tensor(1.0)).isfinite()
            # Nor does a step count where one rank's loss is not finite, though all gradients are.
            micro_batches(model, engine, world, step, coords, 1.0)
            lost = torch.tensor(float("inf") if world.rank == world.size - 1 else 1.0)
            assert not engine.step(clip, lost).isfinite()
        losses.append(micro_batches(model, engine, world, step, coords, 1.0))
        norms.append(engine.step(clip, torch.tensor(1.0)).item())
    return {"losses": world.all_reduce_mean(torch.tensor(losses, dtype=torch.float64)), "norms": torch.tensor(norms)}


def micro_batches(
    model: SmallModel, engine: Engine, world: World, step: int, coords: torch.Tensor, factor: float
) -> float:
    total = 0.0
    for micro in range(ACCUMULATION):
        generator = torch.Generator().manual_seed(100 * step + micro)
        signals = torch.rand(3 if step == EMPTY else BATCH, SIDE * SIDE, D, generator=generator)
        loss = model.loss(signals[world.local_slice(len(signals))], coords) * (world.size / len(signals))
        engine.backward(factor * loss / ACCUMULATION)
        total += loss.item() / ACCUMULATION
    return total


def snapshot(model: SmallModel, engine: Engine) -> Numbers:
    """Parameters and moments."""
    parameters = {f"model.{name}": value.detach().clone() for name, value in model.state_dict().items()}
    return parameters | {f"optimizer.{name}": value.clone() for name, value in engine.state().items()}


def load(model: SmallModel, engine: Engine, numbers: Numbers, topology: Topology | None = None) -> None:
    """Continue from a snapshot: this rank's own, or its part of one process's."""
    if topology is not None:
        own = slice(topology.first_expert, topology.first_expert + topology.local_experts)
        numbers = {n: v[own] if ".experts." in n and v.dim() else v for n, v in numbers.items()}
    state = engine.state()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(numbers[f"model.{name}"])
        for name, value in state.items():
            value.copy_(numbers[f"optimizer.{name}"])
    engine.refresh()
    engine.restore(state)


def whole_run(make_engine: Any, world: World) -> dict[str, Numbers]:
    """All steps, with a snapshot at the start, in the middle and at the end."""
    engine = make_engine()
    model = make(world, engine)
    start = snapshot(model, engine)
    first = train(model, engine, world, range(MIDDLE))
    middle = snapshot(model, engine)
    last = train(model, engine, world, range(MIDDLE, STEPS))
    figures = {name: torch.cat([first[name], last[name]]) for name in first}
    return {"start": start, "figures": figures, "middle": middle, "end": snapshot(model, engine)}


def continued(make_engine: Any, world: World, numbers: Numbers, topology: Topology | None = None) -> Numbers:
    """From a snapshot of the middle to the end, by a new engine and a new model that began differently."""
    engine = make_engine()
    model = make(world, engine)
    train(model, engine, world, range(2))
    load(model, engine, numbers, topology)
    train(model, engine, world, range(MIDDLE, STEPS))
    return snapshot(model, engine)


def assert_same(ranks: list[Numbers], alone: Numbers, size: int, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    """Each rank's numbers are those of one process; experts of each replica, put together, are all experts."""
    for name, expected in alone.items():
        assert all(name in numbers for numbers in ranks), name
        if ".experts." in name and expected.dim():
            parts = [
                torch.cat([ranks[rank][name] for rank in range(first, first + size)])
                for first in range(0, len(ranks), size)
            ]
        else:
            parts = [numbers[name] for numbers in ranks]
        for part in parts:
            torch.testing.assert_close(part, expected, rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}")
    assert all(set(numbers) == set(alone) for numbers in ranks)
