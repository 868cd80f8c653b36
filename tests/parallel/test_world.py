"""One process alone agrees with itself; any number share the work."""

import pytest
import torch

from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World


def test_alone() -> None:
    world = World(Topology(4))
    values = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert (world.rank, world.size, world.first) == (0, 1, True)
    assert world.all_reduce_mean(values) is values and world.all_reduce_sum(values) is values
    assert world.all_gather(values).tolist() == [[1.0, 2.0]]
    assert world.on_rank_zero(lambda: 3) == 3 and world.raise_on_all_ranks(lambda: "a") == "a"
    assert world.as_shard(values) is values
    world.replicate(values, sharded=True)
    world.close()


@pytest.mark.parametrize(("count", "size"), [(8, 4), (7, 3), (2, 4), (0, 2)])
def test_parts_are_consecutive_disjoint_and_differ_by_one_at_most(count: int, size: int) -> None:
    parts = [World(Topology(12, size, rank)).local_slice(count) for rank in range(size)]
    assert [index for part in parts for index in range(count)[part]] == list(range(count))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1 and lengths == sorted(lengths, reverse=True)
