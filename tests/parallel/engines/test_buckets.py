"""Averages of gradients, and when they are sent."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from nid_dist.parallel.engines.buckets import Buckets
from nid_dist.parallel.engines.gradients import complete
from tests.parallel.processes import run


def on_one_rank(rank: int, world_size: int) -> dict[str, torch.Tensor]:
    own = [dist.new_group([other]) for other in range(world_size)][rank]
    found = {}
    for name, floats in (("one by one", 1), ("some", 5), ("all", 100)):
        a, b = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(3))
        c, frozen = nn.Parameter(torch.ones(1, dtype=torch.double)), nn.Parameter(torch.ones(2))
        frozen.requires_grad_(False)
        buckets = Buckets([a, b, frozen, c], None, world_size, floats)
        for micro in range(2):  # the first is no reason to send anything
            if micro == 1:
                buckets.expect()
            ((1.0 + rank) * a.sum() + (20.0 * micro * b.sum() if rank == 1 else 0.0)).backward()  # c in no rank's loss
            sent = len(buckets._sent) if micro else 0
        complete([a, b, c, frozen])
        averages = buckets.finish()
        found[name] = torch.cat([average.double().flatten() for average in averages])
        assert all(p.grad is average for p, average in zip((a, b, c), averages, strict=True)) and frozen.grad is None
        found[f"{name}: sent early"] = torch.tensor(sent)
        frozen.requires_grad_(True)
        for parameter in (a, b, c, frozen):
            parameter.grad = None
        (frozen * (2.0 + rank)).sum().backward()
        complete([a, b, c, frozen])
        found[f"{name}: thawed"] = buckets.finish()[2]
    alone = nn.Parameter(torch.ones(2))
    lonely = Buckets([alone], own, world_size)
    lonely.expect()
    (alone * (3.0 + rank)).sum().backward()
    return found | {"alone": lonely.finish()[0]}


def test_two_ranks(tmp_path: Path) -> None:
    for rank, found in enumerate(run(on_one_rank, 2, tmp_path)):
        for name in ("one by one", "some", "all"):
            assert found[name].tolist() == [2 * 1.5] * 4 + [10.0] * 3 + [0.0]
            assert found[f"{name}: thawed"].tolist() == [2.5] * 2
        # Rank 0 has no gradient of the second parameter before it is filled up.
        early = [int(found[f"{name}: sent early"]) for name in ("one by one", "some", "all")]
        assert early == ([1, 1, 0] if rank == 0 else [2, 2, 1])
        assert found["alone"].tolist() == [(3 + rank) / 2] * 2


def test_what_was_sent_takes_nothing_more() -> None:
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        a = nn.Parameter(torch.ones(2))
        buckets = Buckets([a], None, 2)
        buckets.expect()
        a.sum().backward()
        with pytest.raises(RuntimeError, match="after it had been sent"):
            a.sum().backward()
    finally:
        dist.destroy_process_group()
