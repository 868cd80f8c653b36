"""The precision benchmark trains the same in every precision that there is."""

import pytest

from nid_dist.benchmarks import precision
from nid_dist.config import load_config
from nid_dist.tasks.images import sources
from tests.benchmarks.test_quality import SMALL


def test_quick_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(path: object, overrides: list[str]) -> object:
        return load_config(precision.CONFIG, [*overrides, *SMALL])

    monkeypatch.setattr(sources, "EMBEDDED", ("chelsea", "coins", "camera", "astronaut"))
    monkeypatch.setattr(precision, "load_config", small)
    figures, table = precision.run(quick=True)
    # The CPU has no tf32.
    assert [row[:3] for row in table.rows] == [
        [mode, words, 3] for mode in ("schedule", "gate") for words in ("fp32", "fp32, another seed", "bf16")
    ]
    for row in table.rows:
        assert (row[-3:] == [0.0, 0.0, 0.0]) == (row[1] == "fp32")
    for mode in ("schedule", "gate"):
        for name in ("fp32", "fp32_seed1", "bf16"):
            assert figures[f"db_{mode}_{name}_omp"] > 10
        assert abs(figures[f"db_{mode}_bf16_omp"] - figures[f"db_{mode}_fp32_omp"]) < 0.5
