"""The fairscale engine against one process, and the recomputed gate against the gate."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nid_dist.coding.gates import make_gate
from nid_dist.config.schema import Gate as GateConfig
from nid_dist.parallel.engines.engine import LocalEngine
from nid_dist.parallel.engines.fairscale_engine import FairscaleEngine, checkpoint_gate
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.world import World
from tests.parallel.processes import run
from tests.parallel.training_runs import ACCUMULATION, N, Numbers, assert_same, continued, whole_run


def train(rank: int, world_size: int, size: int) -> dict[str, Numbers]:
    topology = Topology(N, world_size, rank, size)
    world = ProcessGroupWorld(topology, "fairscale")
    found = whole_run(lambda: FairscaleEngine(world, ACCUMULATION), world)
    found["continued"] = continued(lambda: FairscaleEngine(world, ACCUMULATION), world, found["middle"])
    middle = whole_run(LocalEngine, World(Topology(N)))["middle"]
    found["taken over"] = continued(lambda: FairscaleEngine(world, ACCUMULATION), world, middle, topology)
    return found


@pytest.mark.parametrize(("world", "size"), [(2, 2), (4, 2)])
def test_equal_to_one_process(tmp_path: Path, world: int, size: int) -> None:
    alone = whole_run(LocalEngine, World(Topology(N)))
    ranks = run(train, world, tmp_path, size)
    for part, expected in alone.items():
        assert_same([rank[part] for rank in ranks], expected, size)
    assert_same([rank["taken over"] for rank in ranks], alone["end"], size)
    for rank in ranks:
        # To the last bit or the one before it: where memory lies decides how some processors add.
        assert_same([rank["continued"]], rank["end"], 1, rtol=1e-6, atol=1e-6)


ALONE = """
import sys, torch
from nid_dist.parallel.engines.fairscale_engine import FairscaleEngine
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.exchange.topology import Topology
torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
net, engine = torch.nn.Linear(2, 1), FairscaleEngine(ProcessGroupWorld(Topology(1), "fairscale"), 1)
group = {"params": list(net.parameters()), "name": "experts", "sharded": True}
engine.prepare([net], torch.optim.Adam([group], lr=0.5, fused=True))
before = net.weight.detach().clone()
engine.backward(net(torch.ones(3, 2)).mean())
assert abs(engine.step(None, torch.tensor(0.0)) - 3**0.5) < 1e-6 and engine.state()["0.weight.step"] == 1
torch.testing.assert_close(net.weight, before - 0.5)
torch.distributed.destroy_process_group()
assert "fairscale" in sys.modules and "deepspeed" not in sys.modules
"""


def test_it_needs_no_deepspeed(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", ALONE, str(tmp_path / "rendezvous")], check=True
    )


def gradients_of(gate: torch.nn.Module, half: bool) -> tuple[dict[str, torch.Tensor], int]:
    """Outputs and gradients of two micro-batches, and how many numbers were kept for the backward pass."""
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    gate.zero_grad()
    results = {}
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        losses = []
        for micro in range(2):
            values = torch.rand(6, 64, 3, generator=torch.Generator().manual_seed(micro))
            with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                output = gate(values, torch.arange(6))
            results |= {f"logits {micro}": output.logits.detach(), f"bias {micro}": output.bias.detach()}
            losses.append(output.logits.square().mean() + output.bias.sin().sum())
        for loss in losses:
            loss.backward()
    return results | {n: p.grad.clone() for n, p in gate.named_parameters() if p.grad is not None}, kept


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["light", "conv", "resnet", "codebook", "unrolled"])
@pytest.mark.filterwarnings("error")
def test_a_recomputed_gate_is_the_same_gate(kind: str, half: bool) -> None:
    def make() -> torch.nn.Module:
        return make_gate(
            GateConfig(kind=kind, width=8),
            experts=12,
            channels=3,
            grid_shape=(8, 8),
            signals=6,
            support=3,
            generator=torch.Generator().manual_seed(1),
        )

    plain, gate = make(), make()
    assert checkpoint_gate(gate) is gate
    assert list(gate.state_dict()) == list(plain.state_dict())
    expected, kept = gradients_of(plain, half)
    found, kept_less = gradients_of(gate, half)
    assert found.keys() == expected.keys()
    assert len(found) == 4 + len(list(plain.parameters()))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)
    assert kind == "codebook" or kept_less < kept / 2
    # Frozen, and without gradients at all, it runs as it did.
    values, ids = torch.rand(6, 64, 3), torch.arange(6)
    with torch.no_grad():
        torch.testing.assert_close(gate(values, ids).logits, plain(values, ids).logits, rtol=0, atol=0)
    assert not gate.requires_grad_(False)(values, ids).logits.requires_grad
