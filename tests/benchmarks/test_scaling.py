"""Efficiencies and speed-ups from known times."""

from collections.abc import Mapping

import pytest

from nid_dist.benchmarks import scaling
from nid_dist.benchmarks.trainings import Training

# By mode: one process with 128 and with 256 signals; two with 256; four with 256 and with 512; two independent ones.
SECONDS = {
    "solve": (0.09, 0.16, 0.1, 0.2, 0.18, 0.1),
    "distill": (0.19, 0.3, 0.2, 0.3, 0.4, 0.19),
    "gate": (0.04, 0.07, 0.05, 0.1, 0.1, 0.04),
    "solve, k = 128": (0.3, 0.6, 0.375, 0.6, 0.7, 0.3),
}
SHAPES = ["1 128", "1 256", "2 256", "4 256", "4 512", "independent"]


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {f"{mode} {shape}": s for mode, some in SECONDS.items() for shape, s in zip(SHAPES, some, strict=True)}
    seen: dict[str, Training] = {}

    def timed(trainings: Mapping[str, Training], steps: int, rounds: int) -> dict[str, float]:
        seen.update(trainings)
        return {name: known[name] for name in trainings}

    monkeypatch.setattr(scaling, "step_seconds", timed)
    monkeypatch.setattr(
        scaling,
        "run_local",
        lambda function, processes, sizes, repeats: [[[0.1 + 0.01 * i, 2**20 * i] for i in range(len(sizes))]],
    )
    figures, table = scaling.run()
    expected = {
        "weak_efficiency_2_solve": 0.9,
        "weak_efficiency_2_distill": 0.95,
        "weak_efficiency_2_gate": 0.8,
        "weak_efficiency_2_solve_n4096": 0.8,
        "weak_efficiency_2": 0.8,
        "weak_efficiency_2_worst": 0.8,
        "strong_speedup_2_solve": 1.6,
        "strong_speedup_2_gate": 1.4,
        "strong_speedup_2": 1.6,
        "strong_speedup_2_worst": 1.4,
        "weak_efficiency_4_solve": 0.5,
        "strong_speedup_4_solve": 0.8,
        "independent_efficiency_2_solve": 0.9,
        "independent_efficiency_2_gate": 1.0,
        "independent_efficiency_2_solve_n4096": 1.0,
        "ms_solve_2_batch256": 100.0,
        "ms_n16384": 120.0,
        "mib_n65536": 3.0,
        "time_ratio_n65536_n1024": 1.3,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert len(table.rows) == 24 + 4
    assert set(seen) == set(known)
    for name, training in seen.items():
        mode = next(mode for mode in SECONDS if name.startswith(f"{mode} "))
        processes, *signals = name.removeprefix(f"{mode} ").split()
        assert f"coding.phases=[{{mode: {mode.partition(',')[0]}}}]" in training.overrides
        assert ("dictionary.experts=4096" in training.overrides) == ("k" in mode)
        assert training.independent == (processes == "independent")
        assert training.processes == (2 if training.independent else int(processes))
        assert f"training.batch={128 if training.independent else signals[0]}" in training.overrides
