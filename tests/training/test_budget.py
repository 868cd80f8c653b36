"""The time of a whole run, by a clock that moves only where the test says."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nid_dist.config.schema import Training
from nid_dist.tasks.images.task import ImageTask
from nid_dist.training import run, trainer
from nid_dist.training.budget import Progress
from nid_dist.training.step import TrainingStep
from tests.tiny import tiny

BOUND = 100.0
STEP, EVALUATION, PRIOR, START = 1.0, 12.0, 5.0, 8.0


class Clock:
    """Seconds that pass when they are made to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now

    def after(self, call: Any, seconds: float) -> Any:
        def slow(*args: Any, **kwargs: Any) -> Any:
            self.now += seconds
            return call(*args, **kwargs)

        return slow


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (trainer, run):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    monkeypatch.setattr(trainer, "initialise", clock.after(trainer.initialise, START))
    monkeypatch.setattr(trainer, "update_prior", clock.after(trainer.update_prior, PRIOR))
    monkeypatch.setattr(TrainingStep, "run", clock.after(TrainingStep.run, STEP))
    monkeypatch.setattr(ImageTask, "evaluate", clock.after(ImageTask.evaluate, EVALUATION))
    return clock


def test_the_bound_holds_for_the_whole_run(
    images: Path, tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run.train(tiny(images, tmp_path / "run", "training.steps=100000", f"training.max_seconds={BOUND:g}"))
    # The end is tried out once after a quarter of the time; all of it and the last steps come within the bound.
    spent = clock.now - 1000
    assert BOUND - 2 * STEP <= spent <= BOUND + STEP
    assert done.step == pytest.approx(BOUND - START - 2 * (EVALUATION + PRIOR), abs=2)
    assert done.finished and done.folder.finished(done.config.training)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    phases = [line["phase"] for line in lines if line["event"] == "train"]
    assert phases[0] == "solve" and phases[-1] == "distill"
    assert "the prior and the last evaluation will take about 17 of the 100 s" in capsys.readouterr().err


def test_a_run_that_has_no_time_makes_one_step(images: Path, tmp_path: Path, clock: Clock) -> None:
    done = run.train(tiny(images, tmp_path / "run", "training.steps=100000", "training.max_seconds=2"))
    assert done.step == 1 and done.figures


def test_an_end_that_takes_too_long_is_not_done_twice(images: Path, tmp_path: Path, clock: Clock) -> None:
    done = run.train(tiny(images, tmp_path / "run", "training.steps=100000", "training.max_seconds=20"))
    assert clock.now - 1000 == START + done.step * STEP + PRIOR + EVALUATION
    assert done.figures and done.folder.finished(done.config.training)


def test_a_run_that_was_continued_does_not_get_the_time_again(images: Path, tmp_path: Path, clock: Clock) -> None:
    given = ["training.steps=100000", f"training.max_seconds={BOUND:g}"]
    done = run.train(tiny(images, tmp_path / "run", *given))
    again = run.train(tiny(images, tmp_path / "run", *given), resume="auto")
    assert again.step == done.step and not again.figures


def test_rates_follow_what_is_left_for_steps() -> None:
    training = Training(steps=10**6, max_seconds=100)
    begun = Progress(step=1, seconds=1.0, elapsed=9.0)
    assert begun.done(training) == pytest.approx(1 / 92, rel=1e-3)
    half = Progress(step=40, seconds=40.0, elapsed=50.0, ending=10.0)
    assert half.done(training) == pytest.approx(0.5)
    assert Progress(step=80, seconds=80.0, elapsed=90.0, ending=10.0).done(training) == 1.0
    assert Progress(step=5).done(Training(steps=10)) == 0.5


def test_a_checkpoint_of_before_knows_the_time_of_its_steps() -> None:
    assert Progress.of({"step": 3, "phase": 0, "phase_start": 0, "seconds": 2.5}).elapsed == 2.5
