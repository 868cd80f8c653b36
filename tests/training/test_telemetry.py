"""Phases, messages and steps are averaged by hand."""

import time

import pytest

from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.training.telemetry import PHASES, StepClock


def test_means_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of each step: its phase begins, waits for a message from ... to ..., and ends; then, an evaluation's message.
    ticks = iter([0.0, 0.1, 0.2, 0.5, 1.0, 8.0, 9.0, 9.05, 9.15, 9.25, 9.5, 9.75])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    world = World(Topology(4))
    clock = StepClock(world)

    def send(kind: str, sent: int) -> None:
        with world.exchange.traffic.message(kind, sent, world.device):
            pass

    for _ in range(2):
        with clock.step(), clock.phase("forward"):
            send("codes", 3000)
        send("atoms", 10**9)  # of an evaluation: no part of a step
    facts = clock.facts()
    assert facts.keys() == {f"ms/{phase}" for phase in PHASES} | {"ms/wait_codes", "kB/codes"}
    assert facts["ms/forward"] == pytest.approx(375.0)
    assert facts["ms/wait_codes"] == pytest.approx(100.0)
    assert facts["kB/codes"] == pytest.approx(3.0)
    assert clock.working_ms().tolist() == pytest.approx([275.0])
    clock.reset()
    assert clock.facts() == {f"ms/{phase}": 0.0 for phase in PHASES}
