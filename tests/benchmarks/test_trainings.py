"""Real trainings are timed step by step, whatever drives them."""

import json
from pathlib import Path

import pytest

from nid_dist.benchmarks import trainings
from nid_dist.benchmarks.trainings import MODES, TINY, Training, step_seconds

SMALL = (*TINY, "training.batch=4")


def test_one_and_two_processes() -> None:
    given = {
        "one": Training(1, (*SMALL, *MODES["gate"], "parallel.engine=deepspeed")),
        "two": Training(2, (*SMALL, *MODES["solve"])),
        "apart": Training(2, (*SMALL, *MODES["gate"]), independent=True),
    }
    seconds = step_seconds(given, steps=2, rounds=1)
    assert set(seconds) == set(given)
    assert all(0 < each < 10 for each in seconds.values())


def test_steps_from_the_means_in_the_log(tmp_path: Path) -> None:
    # Steps of 10, 20 and 60 ms: means of 10, 15 and 30.
    lines = [{"event": "train", "step": step, "ms_per_step": mean} for step, mean in ((1, 10), (2, 15), (3, 30))]
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(json.dumps(line) for line in [*lines, {"event": "eval", "step": 3}]))
    assert trainings._steps(log) == pytest.approx([0.01, 0.02, 0.06])


def test_rounds_take_turns_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, str]] = []
    folders: set[str] = set()

    def fake(function: object, processes: int, training: Training, folder: str, steps: int) -> list[list[float]]:
        calls.append((processes, training.overrides[0]))
        folders.add(folder)
        return [[1.0, 2.0, 90.0]] * processes

    monkeypatch.setattr(trainings, "run_local", fake)
    given = {"a": Training(1, ("x=1",)), "b": Training(2, ("x=2",)), "c": Training(1, ("x=3",))}
    assert step_seconds(given, steps=3, rounds=2) == {"a": 2.0, "b": 2.0, "c": 2.0}
    assert calls == [(1, "x=1"), (2, "x=2"), (1, "x=3")] * 2
    assert len(folders) == 6
