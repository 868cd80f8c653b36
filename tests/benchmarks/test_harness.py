"""Timing in turns, and peak memory against known sizes."""

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nid_dist.benchmarks import harness
from nid_dist.benchmarks.harness import alternate, peak_bytes

PROGRAM = """
import torch
from nid_dist.benchmarks.harness import peak_bytes

def run():
    for _ in range(2):
        torch.ones({} * 2**18)  # float32, freed at once: the second takes the first one's place

print(peak_bytes(run))
"""


def test_variants_take_turns_after_their_warm_up() -> None:
    calls: list[str] = []
    seconds = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert set(seconds) == {"a", "b"}


def test_the_median_ignores_an_outlier(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 10.0, 11.0, 20.0, 22.0, 30.0, 93.0])  # a warm-up begins; then 1, 2 and 63 seconds
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    assert alternate({"a": lambda: None}, repeats=3) == {"a": 2.0}


@pytest.mark.parametrize("megabytes", [64, 192])
def test_peak_is_what_was_held_at_once(megabytes: int) -> None:
    # In a process of its own: a training that ran in this one would have made it keep what is freed.
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(megabytes)], capture_output=True, text=True, check=True)
    assert float(done.stdout) / 2**20 == pytest.approx(megabytes, rel=0.1)


def test_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    assert math.isnan(peak_bytes(lambda: None))
    assert harness._status("VmRSS") > 0
