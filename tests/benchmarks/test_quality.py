"""The quality benchmark trains each mode for its time and measures what it should."""

import math

import pytest

from nid_dist.benchmarks import quality
from nid_dist.config import load_config
from nid_dist.tasks.images import sources

SMALL = [
    "signals.short_side=32",
    "signals.val=[camera]",
    "dictionary.experts=64",
    "dictionary.width=16",
    "dictionary.encoding.features=8",
    "coding.support=8",
    "coding.gate.iterations=2",
    "training.batch=8",
    "logging.progress=false",
]


def test_quick_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def small(path: object, overrides: list[str]) -> object:
        config = load_config(quality.CONFIG, [*overrides, *SMALL, "training.max_seconds=0.2"])
        seen.append([phase.mode for phase in config.coding.phases])
        return config

    monkeypatch.setattr(sources, "EMBEDDED", ("chelsea", "coins", "camera", "astronaut"))
    monkeypatch.setattr(quality, "load_config", small)
    figures, table = quality.run(quick=True)
    assert seen == [["gate"], ["solve"], ["solve", "distill"]]
    assert len(table.rows) == 3
    for mode in ("gate", "solve", "schedule"):
        assert math.isfinite(figures[f"db_{mode}_1s"]) and figures[f"steps_{mode}"] >= 1
        assert figures[f"db_{mode}_1s"] > figures[f"db_{mode}_1s_init"] - 1
