from pathlib import Path

import pytest
import torch
from torch import nn

from nid_dist.parallel.engines.gradients import clip, complete, global_norm
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.world import World
from tests.parallel.processes import run

LOSS = torch.tensor(0.5)


def test_only_what_requires_a_gradient_is_completed() -> None:
    missing, present, frozen = (nn.Parameter(torch.ones(2)) for _ in range(3))
    present.grad = torch.tensor([1.0, 2.0])
    frozen.requires_grad_(False)
    complete([missing, present, frozen])
    assert missing.grad is not None and missing.grad.tolist() == [0, 0]
    assert present.grad.tolist() == [1, 2]
    assert frozen.grad is None


@pytest.mark.parametrize("largest", [None, 0.5, 5.0, 13.0, 14.0])
def test_clipping_is_pytorch_s(largest: float | None) -> None:
    ours, theirs = ([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))] for _ in range(2))
    for parameters in (ours, theirs):
        parameters[0].grad, parameters[1].grad = torch.tensor([3.0, -4.0]), torch.tensor([12.0])
    gradients = [p.grad for p in ours if p.grad is not None]
    norm = global_norm([(gradients, 1)], LOSS, World(Topology(1)))
    assert float(norm) == pytest.approx(13)
    clip(gradients, norm, largest)
    if largest is not None:
        nn.utils.clip_grad_norm_(theirs, largest)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_norm_says_what_is_not_finite(value: float) -> None:
    world = World(Topology(1))
    assert not global_norm([([torch.tensor([1.0, value])], 1)], LOSS, world).isfinite()
    assert not global_norm([([torch.tensor([1.0])], 1)], torch.tensor(value), world).isfinite()


def on_one_rank(rank: int, world_size: int) -> dict[str, torch.Tensor]:
    world = ProcessGroupWorld(Topology(2, world_size, rank, 2))
    # Replicated 2 numbers of 1, and on each rank 2 numbers of its own.
    norms = [global_norm([([torch.ones(2)], 2), ([torch.full((2,), 2.0 + rank)], 1)], LOSS, world)]
    norms.append(global_norm([([torch.tensor(float("inf") if rank else 0.0)], 1)], LOSS, world))
    norms.append(global_norm([([torch.ones(2)], 2)], torch.tensor(float("nan") if rank else 1.0), world))
    return {"norms": torch.stack(norms)}


def test_two_ranks(tmp_path: Path) -> None:
    for found in run(on_one_rank, 2, tmp_path):
        assert found["norms"][0].item() == pytest.approx((2 * 1 + 2 * 4 + 2 * 9) ** 0.5)
        assert found["norms"][1].item() == float("inf")
        assert found["norms"][2].isnan()
