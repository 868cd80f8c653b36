"""A disk without room: one line, exit code 2, what was written before stays, and nothing is there by half."""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nid_dist.checkpoints.run_folder import RunFolder
from nid_dist.cli.entry import guarded
from nid_dist.cli.fit import command
from nid_dist.code import Code
from nid_dist.config.schema import Logging
from nid_dist.errors import UserError
from nid_dist.evaluation.pictures import save_image
from nid_dist.files import new_folder, save_array, write_json
from nid_dist.tasks.audio.reading import Sound, write_sound
from nid_dist.tasks.video.decomposition.writing import writing
from nid_dist.training.monitor import Monitor
from tests.tiny import picture

STORED = Path(__file__).parent / "fixtures" / "version_0_1" / "runs" / "images"


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file may become larger: the kernel refuses the write, as it does on a full disk or beyond a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def film(path: Path) -> None:
    with writing(path, 25.0) as video:
        for frame in np.random.default_rng(0).random((20, 64, 64, 3), np.float32):
            video.add(frame)


NOISE = np.random.default_rng(0).random((64, 64, 3), np.float32)
WRITERS: dict[str, Callable[[Path], object]] = {
    "a.safetensors": lambda path: Code(torch.rand(99, 9), torch.rand(99, 3)).save(path),
    "a.png": lambda path: save_image(path, NOISE),
    "a.npy": lambda path: save_array(path, NOISE),
    "a.json": lambda path: write_json(path, {"a": list(range(999))}),
    "a.wav": lambda path: write_sound(path, Sound(NOISE.reshape(-1, 1), 8000)),
    "a.mp4": film,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"as it was")
    with room(1000), pytest.raises(UserError, match=rf"{name}: found that it cannot be written \((File too|No space)"):
        WRITERS[name](path)
    assert [each.name for each in tmp_path.iterdir()] == [name] and path.read_bytes() == b"as it was"
    WRITERS[name](path)
    assert path.stat().st_size > 1000


def test_a_folder_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    def write() -> None:
        with new_folder(tmp_path / "out") as folder:
            save_array(folder / "a.npy", NOISE[:1])
            save_array(folder / "b.npy", NOISE)

    with room(2000), pytest.raises(UserError) as caught:
        write()
    assert str(caught.value).startswith(f"{tmp_path}/out/b.npy: found that it cannot be written")
    assert list(tmp_path.iterdir()) == []


def given(folder: Path, sizes: dict[str, int]) -> list[str]:
    (folder / "images").mkdir()
    for seed, (name, side) in enumerate(sizes.items()):
        Image.fromarray(picture(seed, side, side)).save(folder / "images" / name)
    given = ["--dictionary", str(STORED), "--input", str(folder / "images"), "--out", str(folder / "out")]
    return [*given, "--solver", "omp", "--device", "cpu"]


def assert_kept(out: Path) -> None:
    """The first image as a whole, and of the others nothing."""
    assert sorted(each.name for each in out.iterdir() if each.is_dir()) == ["a"]
    assert {each.name for each in (out / "a").iterdir()} == {"codes.safetensors", "omp.png", "comparison.png"}
    with Image.open(out / "a" / "omp.png") as image:
        image.load()
    assert not [each for each in out.rglob("*") if each.name.startswith(".") or each.name.endswith(".tmp")]


@pytest.mark.usefixtures("quick_figures")
def test_fitting_keeps_what_there_was_room_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = given(tmp_path, {"a.png": 16, "b.png": 256, "c.png": 16})
    with room(9000):
        assert guarded("nid-fit", command)(arguments) == 2
    error, summary = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert error.startswith(
        f"nid-fit: error: b.png: {tmp_path}/out/b/codes.safetensors: found that it cannot be written"
    )
    assert summary == "nid-fit: error: 2 of 3 images have no result; the others are written"
    assert_kept(tmp_path / "out")
    assert set(json.loads((tmp_path / "out" / "results.json").read_text())["failed"]) == {"b.png", "c.png"}


@pytest.mark.usefixtures("quick_figures")
def test_a_table_that_cannot_be_written_names_what_has_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = given(tmp_path, {"a.png": 16, "b.png": 16})
    with room(10):
        assert guarded("nid-fit", command)(arguments) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert "out/table.md: found no result of a.png and 1 more, and that it cannot be written" in line
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    arguments = given(tmp_path, {"a.png": 16, "b.png": 400})
    arguments[arguments.index("--out") + 1] = str(tmp_path / "disk" / "out")
    mount = f"mount -t tmpfs -o size=700k tmpfs {tmp_path}/disk"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no disk of one's own can be mounted here")
    script = f'{mount} && "$@"; code=$?; cp -r {tmp_path}/disk/out {tmp_path}/kept; exit $code'
    fit = [sys.executable, "-m", "nid_dist.cli.fit", *arguments]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *fit],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "(No space left on device)" in done.stderr and "b.png" in done.stderr
    assert_kept(tmp_path / "kept")


def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "dev" / "null"
    folder.parent.mkdir()
    folder.touch()  # root may write anywhere, but not into a file
    with pytest.raises(UserError, match="cannot be written"):
        write_json(folder / "a.json", {})
    with pytest.raises(UserError, match="cannot be written"):
        WRITERS["a.png"](Path("/proc/self/a.png"))
    with pytest.raises(UserError, match="cannot be written"), new_folder("/proc/self/out"):
        pass


def test_curves_that_cannot_be_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """TensorBoard writes in a thread of its own, whose failure comes out of a later call, and of no traceback."""
    before = threading.excepthook
    monitor = Monitor(RunFolder(tmp_path / "run"), Logging(progress=False), 10)

    def show() -> None:
        for step in range(1000):
            monitor.picture(step, "noise", NOISE)
            time.sleep(0.01)

    with room(20_000), pytest.raises(UserError, match=r"/run/events: found that writing failed \(File too large\)"):
        show()
    monitor.close()
    assert "Traceback" not in capfd.readouterr().err and threading.excepthook is before
