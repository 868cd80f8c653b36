"""Which experts a process holds, and which engine drives it, from the configuration and the launch."""

import pytest

from nid_dist.config import Config, load_config
from nid_dist.errors import UserError
from nid_dist.parallel.engines.engine import LocalEngine
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.setup import make_engine, make_topology, open_world


def configured(*overrides: str) -> Config:
    return load_config(None, ["dictionary.experts=12", "coding.support=2", *overrides])


def of(size: int, rank: int = 0, local: int | None = None) -> Launch:
    here = size if local is None else local
    return Launch("torchrun", rank, size, rank % here, here, "127.0.0.1", 1)


@pytest.mark.parametrize(
    ("given", "launch", "expected"),
    [
        ([], Launch(), (1, 12, 0)),
        ([], of(4, 3), (4, 3, 9)),
        ([], of(8, 5, local=4), (4, 3, 3)),  # a group in each of two nodes
        (["parallel.expert_parallel_size=2"], of(4, 3), (2, 6, 6)),
        (["dictionary.experts=10"], of(4, 3), (2, 5, 5)),  # 4 does not divide 10
    ],
)
def test_placement(given: list[str], launch: Launch, expected: tuple[int, int, int]) -> None:
    topology = make_topology(configured(*given), launch)
    assert (topology.expert_parallel_size, topology.local_experts, topology.first_expert) == expected


@pytest.mark.parametrize(
    ("given", "launch", "message"),
    [
        (["parallel.expert_parallel_size=2"], Launch(), "expert_parallel_size: found 2 with 1 process"),
        (["parallel.expert_parallel_size=3"], of(4), "the number of processes: found 4, expected a multiple"),
        (["parallel.engine=local"], of(2), r"parallel.engine: found local with 2 processes \(torchrun\)"),
    ],
)
def test_what_does_not_fit_is_refused(given: list[str], launch: Launch, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_topology(configured(*given), launch)


def test_one_process_needs_no_process_group() -> None:
    config = configured("parallel.zero_stage=1")
    with open_world(config, Launch()) as world:
        assert (world.size, world.exchange.ranks) == (1, 1)
        # With `auto` the settings for many processes are no error in one.
        assert isinstance(make_engine(config, Launch(), world), LocalEngine)
        with pytest.raises(UserError, match=r"parallel.zero_stage: found a setting of DeepSpeed with engine local"):
            make_engine(configured("parallel.zero_stage=1", "parallel.engine=local"), Launch(), world)
