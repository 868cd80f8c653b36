"""DeepSpeed's engine against one process: losses, norms, parameters and moments over a whole training."""

from pathlib import Path
from typing import Any

import pytest

from nid_dist.parallel.engines.deepspeed_engine import DeepSpeedEngine
from nid_dist.parallel.engines.engine import Engine, LocalEngine
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.world import World
from tests.parallel.processes import run
from tests.parallel.training_runs import ACCUMULATION, N, Numbers, assert_same, continued, whole_run

# What changes how ZeRO-1 lays out, sends or measures, but no number; buckets are smaller than parameters.
OPTIONS = {
    "communication_data_type": "fp32",
    "wall_clock_breakdown": True,
    "dump_state": True,
    "comms_logger": {"enabled": True},
    "zero_optimization": {
        "reduce_bucket_size": 30,
        "allgather_bucket_size": 40,
        "allgather_partitions": False,
        "use_multi_rank_bucket_allreduce": False,
        "round_robin_gradients": True,
        "parameter_alignment": True,
        "overlap_comm": False,
    },
}


def train(rank: int, world_size: int, size: int, stage: int, options: dict[str, Any]) -> dict[str, Numbers]:
    topology = Topology(N, world_size, rank, size)
    world = ProcessGroupWorld(topology)

    def make_engine() -> Engine:
        engine = DeepSpeedEngine(world, ACCUMULATION, stage, options)
        assert isinstance(engine, Engine)
        return engine

    found = whole_run(make_engine, world)
    if not options:
        found["continued"] = continued(make_engine, world, found["middle"])
        alone = whole_run(LocalEngine, World(Topology(N)))
        found["taken over"] = continued(make_engine, world, alone["middle"], topology)
    return found


def train_with_all(rank: int, world_size: int, cases: list[Any]) -> list[dict[str, Numbers]]:
    return [train(rank, world_size, *case) for case in cases]


@pytest.mark.parametrize("world", [2, 4])
def test_equal_to_one_process(tmp_path: Path, world: int, capfd: pytest.CaptureFixture[str]) -> None:
    cases: list[Any] = [(2, 0, {}), (2, 1, {})]
    if world == 2:
        cases += [(1, 0, {}), (1, 1, OPTIONS)]
    alone = whole_run(LocalEngine, World(Topology(N)))
    results = run(train_with_all, world, tmp_path, cases)
    assert capfd.readouterr().out == "" or world == 2  # where DeepSpeed was asked to say something
    for (size, *_), *ranks in zip(cases, *results, strict=True):
        for part, expected in alone.items():
            assert_same([rank[part] for rank in ranks], expected, size)
        if "continued" in ranks[0]:
            assert_same([rank["taken over"] for rank in ranks], alone["end"], size)
            for rank in ranks:
                assert_same([rank["continued"]], rank["end"], 1, rtol=1e-6, atol=1e-6)
