"""Timing in turns."""

import time

import pytest

from nid_dist.benchmarks.harness import alternate


def test_variants_take_turns_after_their_warm_up() -> None:
    calls: list[str] = []
    seconds = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert set(seconds) == {"a", "b"}


def test_the_median_ignores_an_outlier(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 9.0, 10.0, 11.0, 20.0, 22.0, 30.0, 93.0])  # a warm-up; then 1, 2 and 63 seconds
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    assert alternate({"a": lambda: None}, repeats=3) == {"a": 2.0}
