"""What long work shows of itself, on a terminal and in a log."""

import time

import pytest

from nid_dist import progress
from nid_dist.progress import Phase, phase, track


def quick(monkeypatch: pytest.MonkeyPatch, terminal: bool = False) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.01)
    monkeypatch.setattr(progress, "INTERVAL", 0.02)
    monkeypatch.setattr(progress, "_TICK", 0.005)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with phase("prior"):
        pass
    assert list(track(range(3), "fitting", "images")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_long_work_without_a_terminal_writes_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(monkeypatch)
    with phase("fitting", 4, "images") as current:
        current.advance(3)
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("fitting: 3 of 4 images, ") and lines[-1].startswith("fitting: done in ")
    assert len(lines) > 2


def test_one_long_call_is_seen_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(monkeypatch, terminal=True)
    with phase("initial values"):
        time.sleep(0.1)
    assert "initial values: 00:00" in capsys.readouterr().err


def test_a_phase_that_is_not_shown_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(monkeypatch)
    with phase("prior", shown=False):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_an_error_ends_the_phase(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    quick(monkeypatch)

    def fail() -> None:
        with phase("prior"):
            time.sleep(0.05)
            raise ValueError("no prior")

    with pytest.raises(ValueError, match="no prior"):
        fail()
    assert "prior: done" not in capsys.readouterr().err


def test_units_are_counted() -> None:
    current = Phase("reading", 2)
    current.advance()
    current.advance()
    assert current.done == current.total
