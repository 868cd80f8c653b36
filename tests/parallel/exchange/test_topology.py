import pytest

from nid_dist.errors import UserError
from nid_dist.parallel.exchange.topology import Topology, default_expert_parallel_size


@pytest.mark.parametrize(
    ("rank", "first"), [(0, 0), (1, 256), (2, 512), (3, 768), (4, 0), (5, 256), (6, 512), (7, 768)]
)
def test_experts_of_each_rank(rank, first):
    topology = Topology(1024, world_size=8, rank=rank, expert_parallel_size=4)
    assert (topology.local_experts, topology.first_expert) == (256, first)


def test_one_process_holds_all():
    topology = Topology(10)
    assert (topology.local_experts, topology.first_expert) == (10, 0)


def test_in_words():
    words = Topology(1024, world_size=8, rank=5, expert_parallel_size=4).summary()
    assert words == "1024 experts in total, 256 on each of 4 expert-parallel rank(s), 2 replica(s)"


@pytest.mark.parametrize(
    ("experts", "world", "message"),
    [
        (10, 4, "dictionary.experts: found 10, expected a multiple of"),
        (8, 6, "processes: found 6, expected a multiple of"),
    ],
)
def test_what_does_not_divide_is_refused(experts, world, message):
    with pytest.raises(UserError, match=message):
        Topology(experts, world_size=world, expert_parallel_size=4)


@pytest.mark.parametrize(
    ("experts", "local", "world", "size"),
    [
        (1024, 8, 32, 8),
        (1024, 6, 12, 2),  # 4 divides the experts and fits in a node of 6, but a group would lie across two nodes
        (12, 8, 16, 4),
        (7, 8, 8, 1),
        (1024, 1, 4, 1),  # one rank a node
        (4096, 8, 4, 4),  # a node that is not full
        (1, 1, 1, 1),
    ],
)
def test_experts_are_shared_within_a_node(experts, local, world, size):
    assert default_expert_parallel_size(experts, local, world) == size
