"""Faults of some kinds are survived, and what a training loses or should not have used is seen."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from nid_dist.benchmarks import faults
from nid_dist.benchmarks.faults import damage, kinds, launched
from nid_dist.benchmarks.faults.course import Course, undisturbed, write_inputs
from nid_dist.benchmarks.faults.kinds import Kind


def test_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    some = (
        Kind("killed", kinds.kill_one, 1),
        Kind("written", kinds.die_in_write, 1),
        Kind("replaced", kinds.die_while_replacing, 1),
        Kind("harmed", partial(kinds.harm, kinds._flip_shard), 1),
    )
    monkeypatch.setattr(kinds, "KINDS", some)
    monkeypatch.setattr(launched, "LAUNCHERS", ())
    figures, table = faults.run(quick=True)
    assert figures["faults"] == figures["survived"] == 6 and figures["survived_share"] == 1.0, figures
    assert figures["steps_lost"] == figures["used_damaged"] == 0 and figures["losses_equal_share"] == 1.0
    assert 0 < figures["recovery_seconds"] <= figures["recovery_seconds_most"]
    assert [row[0] for row in table.rows][:4] == ["killed", "written", "replaced", "harmed"]
    assert any("full" in row[0] for row in table.rows) and any("read-only" in row[0] for row in table.rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, float]]:
    config = write_inputs(tmp_path_factory.mktemp("faults") / "inputs")
    return config, undisturbed(config)


@pytest.fixture
def course(made: tuple[Path, dict[int, float]], tmp_path: Path) -> Iterator[Course]:
    course = Course(tmp_path / "course", made[0], made[1], 2)
    yield course
    course.close()


def test_what_is_lost_is_counted(course: Course) -> None:
    def lose(course: Course) -> None:
        kinds.harm(lambda course, path: None, course, count=0)
        shutil.rmtree(course.path(course.last))

    record = course.meet("lost", lose)
    assert record.steps_lost == 3 and not record.used_damaged and not record.survived, record


def test_what_should_not_have_been_used_is_seen(course: Course) -> None:
    record = course.meet("unharmed", partial(kinds.harm, lambda course, path: None))
    assert record.used_damaged and not record.survived and record.recovery_seconds is not None, record


def test_other_losses_are_seen(course: Course) -> None:
    course.expected = {step: 1.001 * loss for step, loss in course.expected.items()}
    record = course.meet("other", kinds.kill_all)
    assert not record.losses_equal and not record.survived and "instead of" in record.note


def test_a_byte_of_facts_that_changes_their_meaning(tmp_path: Path) -> None:
    path = tmp_path / damage.FACTS
    for seed in range(40):
        path.write_text('{"a":          1 }')
        damage.flip(path, Random(seed))
        assert damage._says(path.read_bytes(), {"a": 1}) is False
