import pytest

from nid_dist.errors import UserError
from nid_dist.parallel.topology import Topology


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
    words = Topology(1024, world_size=8, rank=5, expert_parallel_size=4).in_words()
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
