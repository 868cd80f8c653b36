"""The cost of a gate of any n, from two small ones, is that of the gate itself."""

import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nid_dist.coding.gates.cost import GateCost, gate_cost
from nid_dist.config.schema import Config
from nid_dist.model import Model

KINDS = ("light", "conv", "resnet", "codebook", "unrolled")


def configuration(kind: str, experts: int, rank: int | None = None) -> Config:
    gate = {"kind": kind, "width": 6, "iterations": 3, "rank": rank}
    return Config.model_validate({"coding": {"gate": gate, "support": 4}, "dictionary": {"experts": experts}})


@pytest.mark.parametrize(
    ("kind", "rank"), [*((kind, None) for kind in KINDS), ("light", 5), ("resnet", 4), ("codebook", 5), ("conv", 99)]
)
@pytest.mark.parametrize("experts", [4, 37])
def test_it_is_the_gates_own(kind: str, rank: int | None, experts: int) -> None:
    config = configuration(kind, experts, rank)
    gate = Model(config, channels=3, grid_shape=(8, 8), signals=11).gate
    assert gate is not None
    cost = gate_cost(config, channels=3, grid_shape=(8, 8), signals=11, batch=5)
    numbers = [p.numel() for p in gate.parameters()]
    assert (cost.parameters, cost.largest) == (sum(numbers), max(numbers))
    assert cost.buffers == sum(b.numel() for b in gate.buffers())
    kept: dict[int, int] = {}
    held = {t.data_ptr() for t in (*gate.parameters(), *gate.buffers())}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        output = gate(torch.rand(5, 64, 3), torch.arange(5))
        assert cost.forward == counter.get_total_flops()
        (output.logits.sum() + output.bias.sum()).backward()
    assert cost.forward + cost.backward == counter.get_total_flops()
    if not (kind == "unrolled" and experts == 4):  # which needs no thresholds when every expert is in the support
        # The layout that a convolution chooses may ask for a copy, and supports have k indices.
        assert cost.kept == pytest.approx(sum(kept.values()), rel=0.1)


@pytest.mark.parametrize("experts", [6, 37, 200])
def test_a_pursuit_is_counted(experts: int) -> None:
    coding = {"gate": {"kind": "pursuit", "iterations": 3}, "support": 6, "phases": [{"mode": "solve"}]}
    config = Config.model_validate({"coding": coding, "dictionary": {"experts": experts}})
    gate = Model(config, channels=3, grid_shape=(8, 8), signals=11).gate
    assert gate is not None
    cost = gate_cost(config, channels=3, grid_shape=(8, 8), signals=11, batch=5)
    assert (cost.parameters, cost.largest, cost.backward, cost.kept) == (experts, experts, 0, 0)
    assert cost.buffers == sum(b.numel() for b in gate.buffers())
    with FlopCounterMode(display=False) as counter:
        gate(torch.rand(5, 64, 3), torch.arange(5))
    # Correlations of all atoms in each of three blocks, and what is left over after two.
    chosen = min(8, experts)
    assert cost.forward == counter.get_total_flops() > 2 * 5 * 192 * (3 * experts + chosen)


def test_no_gate_costs_nothing() -> None:
    config = Config.model_validate({"coding": {"gate": {"kind": "none"}, "phases": [{"mode": "solve"}]}})
    assert gate_cost(config, channels=3, grid_shape=(8, 8), signals=11, batch=5) == GateCost()


@pytest.mark.parametrize("kind", KINDS)
def test_a_million_experts_are_not_made(kind: str) -> None:
    begin = time.perf_counter()
    cost = gate_cost(configuration(kind, 10**6), channels=3, grid_shape=(64, 64), signals=10**5, batch=256)
    assert time.perf_counter() - begin < 2
    assert cost.parameters > 6 * 10**6
