"""DeepSpeed's engine against one process: losses, norms, parameters and moments over a whole training."""

from pathlib import Path

import pytest

from nid_dist.parallel.deepspeed_engine import DeepSpeedEngine
from nid_dist.parallel.engine import LocalEngine
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.topology import Topology
from nid_dist.parallel.world import World
from tests.parallel.processes import run
from tests.parallel.training_runs import ACCUMULATION, N, Numbers, assert_same, continued, whole_run


def train_with_both_stages(rank: int, world_size: int, size: int) -> dict[str, dict[str, Numbers]]:
    topology = Topology(N, world_size, rank, size)
    world = ProcessGroupWorld(topology)
    alone = whole_run(LocalEngine, World(Topology(N)))
    results = {}
    for stage in (0, 1):
        def make_engine(stage=stage):
            return DeepSpeedEngine(world, ACCUMULATION, stage)

        results[str(stage)] = found = whole_run(make_engine, world)
        found["continued"] = continued(make_engine, world, found["middle"])
        found["taken over"] = continued(make_engine, world, alone["middle"], topology)
    return results


@pytest.mark.parametrize(("world", "size"), [(2, 2), (4, 2)])
def test_equal_to_one_process(tmp_path: Path, world: int, size: int) -> None:
    alone = whole_run(LocalEngine, World(Topology(N)))
    ranks = run(train_with_both_stages, world, tmp_path, size)
    for stage in ("0", "1"):
        for part, expected in alone.items():
            assert_same([rank[stage][part] for rank in ranks], expected, size)
        assert_same([rank[stage]["taken over"] for rank in ranks], alone["end"], size)
        for rank in ranks:
            assert_same([rank[stage]["continued"]], rank[stage]["end"], 1, rtol=0, atol=0)
