"""Phases and learning rates, by hand."""

import math

import pytest

from nid_dist.config.schema import Optimizer, Phase
from nid_dist.training.schedule import position, rate_factor

PHASES = [Phase(mode="gate", share=1.0), Phase(mode="solve", share=2.0), Phase(mode="distill", share=1.0)]


@pytest.mark.parametrize(
    ("done", "index", "progress"),
    [(0.0, 0, 0.0), (0.125, 0, 0.5), (0.25, 1, 0.0), (0.5, 1, 0.5), (0.75, 2, 0.0), (0.999, 2, 0.996), (1.0, 2, 1.0)],
)
def test_position_by_shares(done: float, index: int, progress: float) -> None:
    place = position(PHASES, done)
    assert (place.index, place.phase) == (index, PHASES[index])
    assert place.progress == pytest.approx(progress, abs=1e-9)


def test_past_the_end_is_the_end_of_the_last_phase() -> None:
    assert position(PHASES, 1.7).index == 2 and position(PHASES, 1.7).progress == 1.0


@pytest.mark.parametrize("steps", [3, 7, 10, 30, 1000])
def test_steps_are_divided_by_share_and_never_go_back(steps: int) -> None:
    thirds = [Phase(mode="solve", share=1 / 3)] * 3
    indices = [position(thirds, step / steps).index for step in range(steps)]
    assert indices == sorted(indices)
    assert [indices.index(phase) for phase in range(3)] == [0, math.ceil(steps / 3), math.ceil(2 * steps / 3)]


@pytest.mark.parametrize(
    ("schedule", "progress", "factor"),
    [
        ("constant", 0.9, 1.0),
        ("linear", 0.0, 1.0),
        ("linear", 0.25, 0.75),
        ("linear", 0.999, 0.01),
        ("cosine", 0.0, 1.0),
        ("cosine", 0.5, 0.505),
        ("cosine", 1.0, 0.01),
    ],
)
def test_decay(schedule: str, progress: float, factor: float) -> None:
    assert rate_factor(Optimizer(schedule=schedule, warmup_steps=0), 10**6, progress) == pytest.approx(factor)


def test_warm_up_is_linear_and_starts_above_zero() -> None:
    config = Optimizer(schedule="constant", warmup_steps=3)
    assert [rate_factor(config, step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rate_factor(Optimizer(schedule="linear", warmup_steps=1), 0, 0.5) == 0.25
