"""The folder of a run: nothing in it is overwritten or mixed, and one training at a time writes to it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nid_dist.checkpoints.checkpoint import save
from nid_dist.checkpoints.run_folder import RunFolder, create, resolve_resume
from nid_dist.config import Config, load_config
from nid_dist.errors import UserError

OTHER = load_config(None, ["training.steps=7"])
HOLD = (
    "import sys, time, fcntl, os\n"
    "f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
    "fcntl.flock(f, fcntl.LOCK_EX)\n"
    "os.write(f, b'%d on here' % os.getpid())\n"
    "print('held', flush=True)\n"
    "time.sleep(60)\n"
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def checkpoint(folder: Path, step: int) -> Path:
    return save(folder, step, {"x": torch.zeros(1)}, {}, keep=9)


def message(run_dir: Path, resume: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        create(run_dir, Config(), resume)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("resume", [None, "auto"])
def test_a_new_run(tmp_path: Path, exists: bool, resume: str | None) -> None:
    run_dir = tmp_path / "runs" / "a"
    if exists:
        run_dir.mkdir(parents=True)
    with create(run_dir, OTHER, resume) as run:
        assert (run.config, run.log) == (run_dir / "config.yaml", run_dir / "log.jsonl")
        assert (run.checkpoints, run.events) == (run_dir / "checkpoints", run_dir / "events")
        assert names(run_dir) == [".lock", "checkpoints", "config.yaml", "events"]
        assert RunFolder(run_dir).read_config() == OTHER


def test_an_earlier_run_is_not_overwritten(tmp_path: Path) -> None:
    create(tmp_path, OTHER).close()
    text = message(tmp_path)
    assert text.startswith(f"{tmp_path}: found an earlier run")
    assert "choose another logging.run_dir or resume=auto" in text
    assert RunFolder(tmp_path).read_config() == OTHER


@pytest.mark.parametrize("resume", [None, "auto"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, resume: str | None) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    assert "other things in it (thesis.tex)" in message(tmp_path, resume)
    assert names(tmp_path) == ["thesis.tex"]


def test_a_start_that_was_killed_at_once_is_no_run(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("1 on here")
    (tmp_path / ".config.yaml.tmp-1").write_text("signals:")
    create(tmp_path, OTHER).close()
    assert RunFolder(tmp_path).read_config() == OTHER


def test_resume_keeps_an_older_configuration(tmp_path: Path) -> None:
    create(tmp_path, Config()).close()
    create(tmp_path, Config(), "auto").close()
    assert "config.1.yaml" not in names(tmp_path)
    create(tmp_path, OTHER, "auto").close()
    create(tmp_path, Config(), "auto").close()
    assert RunFolder(tmp_path).read_config() == Config()
    assert load_config(tmp_path / "config.1.yaml") == Config()
    assert load_config(tmp_path / "config.2.yaml") == OTHER


def test_resume_from_another_run_needs_a_folder_of_its_own(tmp_path: Path) -> None:
    create(tmp_path / "a", Config()).close()
    create(tmp_path / "b", Config()).close()
    source = checkpoint(tmp_path / "a" / "checkpoints", 3)
    assert "another run than that of resume=" in message(tmp_path / "b", str(source))
    create(tmp_path / "a", Config(), str(source)).close()
    create(tmp_path / "c", Config(), str(source)).close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "not a directory" in message(tmp_path / "file" / "run")
    assert "file exists" in message(tmp_path / "file")


def test_one_training_at_a_time_in_this_process(tmp_path: Path) -> None:
    run = create(tmp_path, Config())
    assert f"process {os.getpid()} on {os.uname().nodename}" in message(tmp_path, "auto")
    run.close()
    run.close()
    create(tmp_path, Config(), "auto").close()


def test_one_training_at_a_time_over_processes_even_killed_ones(tmp_path: Path) -> None:
    create(tmp_path, Config()).close()
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / ".lock")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        for resume in (None, "auto"):
            text = message(tmp_path, resume)
            assert f"a training that is running (process {process.pid} on here" in text
            assert "choose another logging.run_dir" in text
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    create(tmp_path, Config(), "auto").close()
    assert (tmp_path / ".lock").read_text() == f"{os.getpid()} on {os.uname().nodename}\n"


def test_a_refused_start_gives_the_lock_back(tmp_path: Path) -> None:
    create(tmp_path, Config()).close()
    message(tmp_path)
    run = RunFolder(tmp_path)
    run.lock()
    run.close()


def test_looking_into_a_run_that_is_training(tmp_path: Path) -> None:
    with create(tmp_path, OTHER):
        before = names(tmp_path)
        assert RunFolder(tmp_path).read_config() == OTHER
        assert names(tmp_path) == before


@pytest.mark.parametrize(("content", "fragment"), [(None, "no such folder"), ([], "no config.yaml")])
def test_the_configuration_of_what_is_no_run(tmp_path: Path, content: list[str] | None, fragment: str) -> None:
    run = tmp_path / "run"
    if content is not None:
        run.mkdir()
    with pytest.raises(UserError, match=fragment):
        RunFolder(run).read_config()


def test_a_damaged_configuration_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("signals: [")
    with pytest.raises(UserError, match=r"config.yaml line 1"):
        RunFolder(tmp_path).read_config()


def test_what_auto_starts_from(tmp_path: Path) -> None:
    assert resolve_resume(None, tmp_path) is None
    assert resolve_resume("auto", tmp_path / "missing") is None
    assert resolve_resume("auto", tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".step-00000001.tmp-1").mkdir()
    assert resolve_resume("auto", tmp_path) is None
    damaged = tmp_path / "checkpoints" / "step-00000001"
    damaged.mkdir()
    assert resolve_resume("auto", tmp_path) == tmp_path / "checkpoints", "a damaged one is told, not trained over"


def test_what_a_path_starts_from(tmp_path: Path) -> None:
    run = tmp_path / "a"
    create(run, Config()).close()
    source = checkpoint(run / "checkpoints", 3)
    elsewhere = tmp_path / "b"
    assert resolve_resume(str(run), elsewhere) == run / "checkpoints"
    assert resolve_resume(str(run / "checkpoints"), elsewhere) == run / "checkpoints"
    assert resolve_resume(str(source), elsewhere) == source


@pytest.mark.parametrize(("path", "fragment"), [("no", "no such folder"), ("empty", "no checkpoint")])
def test_a_path_without_checkpoints(tmp_path: Path, path: str, fragment: str) -> None:
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=fragment) as caught:
        resolve_resume(str(tmp_path / path), tmp_path)
    assert str(caught.value).startswith(f"resume={tmp_path / path}")


def test_a_configuration_that_is_no_text_any_more(tmp_path: Path) -> None:
    with create(tmp_path, OTHER):
        pass
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe of a damaged disk")
    with create(tmp_path, OTHER, "auto") as run:
        assert run.read_config() == OTHER
    assert (tmp_path / "config.1.yaml").read_bytes() == b"\xff\xfe of a damaged disk"
