"""Overheads from known times, and that each engine is what is asked for."""

from collections.abc import Mapping

import pytest

from nid_dist.benchmarks import engines
from nid_dist.benchmarks.trainings import Training

SECONDS = {
    "local 1": 0.1,
    "deepspeed 1": 0.102,
    "deepspeed_zero1 1": 0.11,
    "fairscale 1": 0.105,
    "deepspeed 2": 0.2,
    "deepspeed_zero1 2": 0.21,
    "fairscale 2": 0.19,
}


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Training] = {}

    def timed(trainings: Mapping[str, Training], steps: int, rounds: int) -> dict[str, float]:
        seen.update(trainings)
        return SECONDS

    monkeypatch.setattr(engines, "step_seconds", timed)
    figures, table = engines.run()
    assert figures == pytest.approx(
        {
            "ms_local": 100,
            "ms_deepspeed": 102,
            "ms_deepspeed_zero1": 110,
            "ms_fairscale": 105,
            "overhead_deepspeed": 1.02,
            "overhead_deepspeed_zero1": 1.1,
            "overhead_fairscale": 1.05,
            "ms_deepspeed_2": 200,
            "ms_deepspeed_zero1_2": 210,
            "ms_fairscale_2": 190,
            "overhead_deepspeed_zero1_2": 1.05,
            "overhead_fairscale_2": 0.95,
        }
    )
    assert set(seen) == set(SECONDS) and len(table.rows) == 7
    for name, training in seen.items():
        engine, processes = name.split()
        assert training.processes == int(processes) and f"training.batch={128 * int(processes)}" in training.overrides
        assert f"parallel.engine={engine.removesuffix('_zero1')}" in training.overrides
        assert ("parallel.zero_stage=1" in training.overrides) == engine.endswith("_zero1")
