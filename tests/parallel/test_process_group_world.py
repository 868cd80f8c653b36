"""What all ranks agree on, in groups of both libraries."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nid_dist.errors import UserError
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from tests.parallel.processes import run


def caught(call: Any) -> str:
    try:
        call()
    except UserError as error:
        return str(error)
    return "nothing"


def fail(text: str) -> None:
    raise UserError(text, found="a", expected="b", hint="c")


def checks(rank: int, size: int, library: Any) -> dict[str, Any]:
    world = ProcessGroupWorld(Topology(8, size, rank, 2), library)
    assert world.first == (rank == 0)
    own = torch.tensor([rank, 2.0 * rank], dtype=torch.float64)
    mean, total, collected = world.all_reduce_mean(own), world.all_reduce_sum(torch.tensor(rank)), world.all_gather(own)
    assert world.on_rank_zero(lambda: {"é": [rank, None]}) == {"é": [0, None]}
    told = caught(lambda: world.on_rank_zero(lambda: fail("first")))
    assert world.raise_on_all_ranks(lambda: rank) == rank
    # Ranks 1 and 2 fail: the error of 1 is everyone's.
    both = caught(lambda: world.raise_on_all_ranks(lambda: fail(f"rank {rank}") if rank in (1, 2) else None))
    replicated, sharded = torch.tensor([float(rank)]), torch.tensor([[float(rank)], [10.0 + rank]]).t()
    world.replicate(replicated, sharded=False)
    world.replicate(sharded, sharded=True)
    whole = world.as_shard(torch.full((4, 3), float(rank % 2))).full_tensor()
    gathered = world.exchange.gather(torch.full((4, 1), rank % 2))
    return {
        "mean": mean,
        "total": total,
        "collected": collected,
        "told": told,
        "both": both,
        "replicated": replicated,
        "sharded": sharded.clone(),
        "whole": whole,
        "gathered": gathered,
    }


@pytest.mark.parametrize("library", ["deepspeed", "fairscale"])
def test_four_ranks_of_which_two_share_the_experts(tmp_path: Path, library: str) -> None:
    for rank, found in enumerate(run(checks, 4, tmp_path, library)):
        assert found["mean"].tolist() == [1.5, 3.0]
        assert int(found["total"]) == 6
        assert found["collected"].tolist() == [[0, 0], [1, 2], [2, 4], [3, 6]]
        assert found["told"] == "first: found a, expected b; c"
        assert found["both"] == "rank 1: found a, expected b; c"
        assert found["replicated"].tolist() == [0.0]
        # Ranks 0 and 2 hold the same experts, and so do 1 and 3.
        assert found["sharded"].tolist() == [[rank % 2, 10.0 + rank % 2]]
        assert found["whole"][:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
        assert found["gathered"][:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def messages_of_hosts(rank: int, size: int) -> dict[str, Any]:
    """As where each process has a GPU, which here nothing may touch."""
    world = ProcessGroupWorld(Topology(8, size, rank, 2), "fairscale", device=torch.device("cuda", rank))
    groups = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("all_reduce", "broadcast", "all_gather_into_tensor", "all_gather_single"):
            if hasattr(dist, name):
                send = getattr(dist, name)
                patch.setattr(
                    dist,
                    name,
                    lambda *given, send=send, **named: groups.append(named["group"]) or send(*given, **named),
                )
        mean = world.agree(torch.tensor([rank, 2.0 * rank], dtype=torch.float64))
        collected = world.all_gather(torch.tensor(rank))
        told = caught(lambda: world.on_rank_zero(lambda: fail("first")))
        both = caught(lambda: world.raise_on_all_ranks(lambda: fail(f"rank {rank}")))
    assert groups and all(group is not None and group is not dist.group.WORLD for group in groups)
    return {"mean": mean, "collected": collected, "told": told, "both": both}


def test_what_hosts_agree_on_goes_past_their_gpus(tmp_path: Path) -> None:
    for found in run(messages_of_hosts, 2, tmp_path):
        assert found["mean"].tolist() == [0.5, 1.0]
        assert found["collected"].tolist() == [0, 1]
        assert (found["told"], found["both"]) == ("first: found a, expected b; c", "rank 0: found a, expected b; c")
