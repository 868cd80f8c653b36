"""The monitor: valid JSON lines whatever happens, TensorBoard files that read back, and a quiet terminal."""

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nid_dist.checkpoints.run_folder import RunFolder
from nid_dist.config.schema import Logging
from nid_dist.errors import UserError
from nid_dist.training import monitor as module
from nid_dist.training.monitor import Monitor

QUIET = Logging(progress=False, tensorboard=False)
BOARD = Logging(progress=False, tensorboard=True)


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines(folder: Path) -> list[dict[str, Any]]:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in (folder / "log.jsonl").read_text().splitlines()]


def board(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "events"), size_guidance={"scalars": 0, "images": 0, "histograms": 0})
    events.Reload()
    return events


def test_one_line_per_event(tmp_path: Path) -> None:
    monitor = Monitor(RunFolder(tmp_path), QUIET, 10)
    monitor.scalars(1, {"loss": 0.5, "dead": 3}, text={"phase": "solve"})
    monitor.scalars(2, {"psnr": torch.tensor(2.5)}, event="eval")
    monitor.scalars(3, {"bytes": np.int64(7)}, event="checkpoint")
    seen = lines(tmp_path)  # while it is open: every line is written at once
    monitor.close()
    assert all(isinstance(line.pop("time"), float) for line in seen)
    assert seen == [
        {"step": 1, "event": "train", "phase": "solve", "loss": 0.5, "dead": 3},
        {"step": 2, "event": "eval", "psnr": 2.5},
        {"step": 3, "event": "checkpoint", "bytes": 7},
    ]


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, torch.tensor(math.nan), np.float32("inf")],
    ids=["nan", "inf", "-inf", "t", "n"],
)
def test_what_is_not_finite_is_null(tmp_path: Path, value: float) -> None:
    monitor = Monitor(RunFolder(tmp_path), QUIET, 10)
    monitor.scalars(1, {"loss": value})
    monitor.close()
    assert lines(tmp_path)[0]["loss"] is None


def test_a_second_start_appends_even_after_half_a_line(tmp_path: Path) -> None:
    for step in (1, 2):
        monitor = Monitor(RunFolder(tmp_path), QUIET, 10, first_step=step - 1)
        monitor.scalars(step, {"loss": 1.0})
        monitor.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    monitor = Monitor(RunFolder(tmp_path), QUIET, 10)
    monitor.scalars(4, {"loss": 1.0})
    monitor.close()
    written = (tmp_path / "log.jsonl").read_text().splitlines()
    assert written[2] == '{"step": 3, "lo'
    assert json.loads(written[3])["step"] == 4


def test_curves_pictures_and_histograms(tmp_path: Path) -> None:
    monitor = Monitor(RunFolder(tmp_path), BOARD, 10)
    monitor.scalars(1, {"loss": 0.5})
    monitor.scalars(2, {"loss": 0.25}, text={"phase": "gate"})
    monitor.scalars(2, {"psnr": 30.0}, event="eval")
    monitor.picture(2, "colour", np.full((4, 6, 3), 0.5, dtype=np.float32))
    monitor.picture(2, "grey", np.array([[[-1.0], [2.0], [np.nan]]], dtype=np.float32))
    monitor.histogram(2, "load", torch.tensor([[1, 2], [3, 4]]))
    monitor.histogram(2, "partly", torch.tensor([1.0, math.nan, math.inf]))
    monitor.histogram(2, "none", torch.tensor([math.nan]))
    monitor.close()
    events = board(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 0.5), (2, 0.25)]
    assert [(e.step, e.value) for e in events.Scalars("eval/psnr")] == [(2, 30.0)]
    assert [(e.width, e.height) for e in events.Images("colour")] == [(6, 4)]
    assert [(e.width, e.height) for e in events.Images("grey")] == [(3, 1)]
    load = events.Histograms("load")[0].histogram_value
    assert (load.num, load.min, load.max, load.sum) == (4, 1, 4, 10)
    assert events.Histograms("partly")[0].histogram_value.num == 1
    assert events.Tags()["histograms"] == ["load", "partly"]


def test_a_resumed_run_replaces_the_curve_from_there_on(tmp_path: Path) -> None:
    for first, values in ((0, {1: 1.0, 2: 2.0, 3: 3.0}), (2, {3: 30.0})):
        monitor = Monitor(RunFolder(tmp_path), BOARD, 10, first_step=first)
        for step, value in values.items():
            monitor.scalars(step, {"loss": value})
        monitor.close()
    assert [(e.step, e.value) for e in board(tmp_path).Scalars("train/loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_without_tensorboard_it_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monitor = Monitor(RunFolder(tmp_path), QUIET, 10)
    monitor.picture(1, "a", np.zeros((1, 1, 3), dtype=np.float32))
    monitor.histogram(1, "a", torch.zeros(1))
    monitor.close()
    assert not (tmp_path / "events").exists()
    with pytest.raises(UserError, match=r"logging.tensorboard: found true.*pip install tensorboard"):
        Monitor(RunFolder(tmp_path), BOARD, 10)


def test_other_ranks_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monitor = Monitor(RunFolder(tmp_path / "run"), Logging(), 10, enabled=False)
    monitor.scalars(10, {"loss": 1.0}, event="end")
    monitor.picture(1, "a", np.zeros((1, 1, 3), dtype=np.float32))
    monitor.histogram(1, "a", torch.zeros(1))
    monitor.message("hello")
    monitor.close()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monitor = Monitor(RunFolder(tmp_path), Logging(tensorboard=False), 200, first_step=50)
    monitor.scalars(150, {"loss": 0.12345678}, text={"phase": "solve"})
    monitor.message("a message")
    monitor.scalars(200, {"loss": 0.5}, event="end")
    monitor.close()
    shown = terminal.getvalue()
    assert "50/200" in shown
    assert "150/200" in shown
    assert "200/200" in shown
    assert "loss=0.1235" in shown
    assert "a message\n" in shown.replace("\r", "\n")


def test_lines_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 4.0, 12.0, 13.0, 20.0, 21.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    monitor = Monitor(RunFolder(tmp_path), Logging(tensorboard=False), 100, first_step=10)
    for step in (20, 34, 40, 45):  # at 4, 12, 13 and 20 seconds
        monitor.scalars(step, {"loss": 0.5})
    monitor.message("a message")
    monitor.scalars(100, {"loss": 0.25})
    monitor.close()
    out, shown = capsys.readouterr()
    assert out == ""
    # 24 steps in 12 s; the last step is always shown: 90 steps in 21 s.
    assert shown == "step 34/100  2 steps/s  loss 0.5\na message\nstep 100/100  4.29 steps/s  loss 0.25\n"


def test_no_progress_but_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monitor = Monitor(RunFolder(tmp_path), QUIET, 10)
    monitor.scalars(10, {"loss": 1.0})
    monitor.message("hello")
    monitor.close()
    monitor.close()
    assert capsys.readouterr().err == "hello\n"


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    monitor = Monitor(RunFolder(tmp_path), QUIET, 10)
    with pytest.raises(UserError, match=r"log.jsonl: found that writing failed \(No space left on device\)"):
        monitor.scalars(1, {"loss": 1.0})
    monitor.close()
    (tmp_path / "other" / "log.jsonl").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be opened"):
        Monitor(RunFolder(tmp_path / "other"), QUIET, 10)
