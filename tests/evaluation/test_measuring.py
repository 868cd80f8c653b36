"""Peak memory against known sizes."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nid_dist.evaluation import measuring
from nid_dist.evaluation.measuring import peak_bytes, timed

PROGRAM = """
import torch
from nid_dist.evaluation.measuring import peak_bytes

def run():
    for _ in range(2):
        torch.ones({} * 2**18)  # float32, freed at once: the second takes the first one's place

print(peak_bytes(run))
"""


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
    assert measuring._status("VmRSS") > 0


def test_what_is_timed_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([1.0, 3.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    assert timed(lambda: "found") == ("found", 2.5)


def test_of_a_gpu_the_allocator_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def answer(name: str, value: int | None = None) -> None:
        monkeypatch.setattr(torch.cuda, name, lambda device: (said.append(name), value)[1])

    answer("synchronize")
    answer("reset_peak_memory_stats")
    answer("memory_allocated", 1000)
    answer("max_memory_allocated", 5000)
    assert peak_bytes(lambda: said.append("run"), torch.device("cuda:0")) == 4000
    assert said == ["synchronize", "reset_peak_memory_stats", "memory_allocated", "run", "max_memory_allocated"]
