"""Efficiencies and speed-ups from known times."""

from collections.abc import Mapping

import pytest

from nid_dist.benchmarks import scaling
from nid_dist.benchmarks.trainings import Training

SECONDS = {
    "solve 1 64": 0.09,
    "solve 1 128": 0.16,
    "solve 2 128": 0.1,
    "solve 4 128": 0.2,
    "solve 4 256": 0.18,
    "solve independent": 0.1,
    "gate 1 64": 0.04,
    "gate 1 128": 0.07,
    "gate 2 128": 0.05,
    "gate 4 128": 0.1,
    "gate 4 256": 0.1,
    "gate independent": 0.04,
}


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Training] = {}

    def timed(trainings: Mapping[str, Training], steps: int, rounds: int) -> dict[str, float]:
        seen.update(trainings)
        return {name: SECONDS[name] for name in trainings}

    monkeypatch.setattr(scaling, "step_seconds", timed)
    monkeypatch.setattr(
        scaling,
        "run_local",
        lambda function, processes, sizes, repeats: [[[0.1 + 0.01 * i, 2**20 * i] for i in range(len(sizes))]],
    )
    figures, table = scaling.run()
    expected = {
        "weak_efficiency_2_solve": 0.9,
        "weak_efficiency_2_gate": 0.8,
        "weak_efficiency_2": 0.8,
        "strong_speedup_2_solve": 1.6,
        "strong_speedup_2_gate": 1.4,
        "strong_speedup_2": 1.4,
        "weak_efficiency_4_solve": 0.5,
        "strong_speedup_4_solve": 0.8,
        "independent_efficiency_2_solve": 0.9,
        "independent_efficiency_2_gate": 1.0,
        "ms_solve_2_batch128": 100.0,
        "ms_n16384": 120.0,
        "mib_n65536": 3.0,
        "time_ratio_n65536_n1024": 1.3,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert len(table.rows) == 12 + 4
    for name, training in seen.items():
        mode, processes, *signals = name.split()
        assert f"coding.phases=[{{mode: {mode}}}]" in training.overrides
        assert training.alone == (processes == "independent")
        assert training.processes == (2 if training.alone else int(processes))
        assert f"training.batch={64 if training.alone else signals[0]}" in training.overrides
