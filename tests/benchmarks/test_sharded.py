"""Codes, parts and messages of the sharded cases, and timing on all ranks."""

import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from nid_dist.benchmarks import sharded
from nid_dist.benchmarks.scaling import measure_sizes
from nid_dist.benchmarks.sharded import ShardedCase, Size, joined, summary, together
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.local_processes import run_local
from nid_dist.parallel.launch.network import free_port
from nid_dist.parallel.world import JSON

SIZE = Size(experts=12, support=4, coordinates=9, signals=3, width=8)


def describe(launch: Launch, port: int) -> JSON:
    # Three experts of two owners; and a part of the experts' gradient that is not small.
    sizes = [replace(SIZE, support=3), replace(SIZE, experts=65536, width=64)]
    steps = measure_sizes(replace(launch, port=port), sizes, 1)
    with joined(launch) as world:
        case = ShardedCase(world, SIZE)
        values = case.step()
        sent = sum(case.exchange.traffic.bytes.values())
        slow = 0.05 * (1 + launch.rank)
        seconds = together(world, {"slow": lambda: time.sleep(slow), "none": lambda: None}, 2)
        assert case.code.indices is not None
        return {
            "indices": case.code.indices.tolist(),
            "rows": case.dictionary.experts.rows.tolist(),
            "trunk": case.dictionary.trunk.layers[0].weight.tolist(),
            "shape": list(values.shape),
            "sent": sent,
            "seconds": seconds,
            "threads": torch.get_num_threads(),
            "steps": steps,
        }


def test_two_ranks() -> None:
    found: list[Any] = run_local(describe, 2, free_port())
    for rank in found:
        assert rank["shape"] == [3, 9, 3] and rank["threads"] == 1
        for row in rank["indices"]:
            assert len(set(row)) == 4 and sum(index < 6 for index in row) == 2
        # Of 3 signals to the one other owner: 4 slots of a coefficient, its gradient and its index, and 3 * (8 + 1)
        # numbers of a merged head in both directions.
        assert rank["sent"] == 3 * (4 * 3 + 27 * 2) * 4
        # The slower of the two sleeps twice as long as the other.
        assert rank["seconds"]["slow"] >= 0.1 > rank["seconds"]["none"]
        # 32768 rows of 3 * 65 numbers in float32.
        assert rank["steps"][1][1] == pytest.approx(32768 * 195 * 4, rel=0.2)
        assert rank["steps"][0][0] == found[0]["steps"][0][0] > 0
    assert found[0]["seconds"] == found[1]["seconds"]
    assert found[0]["indices"] != found[1]["indices"]
    assert found[0]["trunk"] == found[1]["trunk"]
    assert len(found[0]["rows"]) == len(found[1]["rows"]) == 6 and found[0]["rows"] != found[1]["rows"]


def test_too_many_processes_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "machine", lambda: {"cores": 2})
    assert [summary(processes) for processes in (1, 2, 4)] == ["1", "2", "4 (oversubscribed: 2 cores)"]
