"""The fairscale engine against one process, and the recomputed gate against the gate."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nid_dist.coding.gates import make_gate
from nid_dist.config.schema import Gate as GateConfig
from nid_dist.parallel.engine import Engine, LocalEngine
from nid_dist.parallel.fairscale_engine import FairscaleEngine, checkpoint_gate
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.topology import Topology
from nid_dist.parallel.world import World
from tests.parallel.processes import run
from tests.parallel.training_runs import N, Numbers, assert_same, continued, whole_run


def train(rank: int, world_size: int, size: int) -> dict[str, Numbers]:
    topology = Topology(N, world_size, rank, size)
    world = ProcessGroupWorld(topology, "fairscale")
    found = whole_run(lambda: FairscaleEngine(world), world)
    found["continued"] = continued(lambda: FairscaleEngine(world), world, found["middle"])
    middle = whole_run(LocalEngine, World(Topology(N)))["middle"]
    found["taken over"] = continued(lambda: FairscaleEngine(world), world, middle, topology)
    return found


@pytest.mark.parametrize(("world", "size"), [(2, 2), (4, 2)])
def test_equal_to_one_process(tmp_path: Path, world: int, size: int) -> None:
    alone = whole_run(LocalEngine, World(Topology(N)))
    ranks = run(train, world, tmp_path, size)
    for part, expected in alone.items():
        assert_same([rank[part] for rank in ranks], expected, size)
    assert_same([rank["taken over"] for rank in ranks], alone["end"], size)
    for rank in ranks:
        assert_same([rank["continued"]], rank["end"], 1, rtol=0, atol=0)
