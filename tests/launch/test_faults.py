"""What becomes of a training of several processes when one is killed, hangs, has an error of its own, or is stopped."""

import math
import random
import shutil
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nid_dist.training import trainer
from tests.launch.killing import ENDS_WITHIN, Training, checkpoints, die_while_writing, fill_disk, limit_files, losses
from tests.tiny import picture, write_sizes

STEPS, EVERY = 60, 3
# Neither the rates nor the phase depend on how many steps there will be.
BASE = [f"training.steps={STEPS}", f"training.checkpoint_every={EVERY}", "training.keep=2"]
BASE += ["coding.phases=[{mode: solve}]", "optimizer.schedule=constant", "parallel.timeout_seconds=60.0"]
TWO_EACH = "parallel.expert_parallel_size=2"


def arguments(images: Path, run: Path, *overrides: str, resume: bool = True) -> list[str]:
    own = [f"signals.path={images}", f"logging.run_dir={run}", *BASE, *overrides]
    return ["--config", str(images.parent / "tiny.yaml"), *(["--resume", "auto"] if resume else []), "--set", *own]


def lines_with(text: str, fragment: str) -> list[str]:
    return [line for line in text.splitlines() if fragment in line]


def leftovers(run: Path) -> list[str]:
    """What only a process that writes has a use for."""
    own = [path.name for path in run.iterdir() if path.name.startswith(".") and path.name != ".lock"]
    return own + [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]


def assert_lost(training: Training, rank: int) -> None:
    """All have ended soon after a rank was killed, and only it is spoken of, once."""
    codes = training.end(ENDS_WITHIN)
    assert codes == [-signal.SIGKILL if other == rank else 2 for other in range(training.size)], training.err
    (line,) = lines_with(training.err, "(process ")
    assert line.startswith(f"nid-train: error: {training.named(rank)}: found ended"), line
    assert training.err.count("error") == 1 and "Traceback" not in training.err, training.err


@pytest.fixture(scope="module")
def here(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images and their configuration; TMPDIR is in it, too."""
    folder = tmp_path_factory.mktemp("faults")
    shutil.copytree(images, folder / "images")
    write_sizes(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(here: Path) -> dict[int, float]:
    """The loss of each step of one process that nothing happens to."""
    with Training(arguments(here / "images", here / "alone"), here / "alone", 1) as training:
        assert training.end() == [0], training.err
    return dict(losses(here / "alone"))


def assert_undisturbed(run: Path, undisturbed: dict[int, float]) -> None:
    """Every step has the loss that it should have, also when it was done twice, and the last is among them."""
    done = losses(run)
    assert done[-1][0] == STEPS and {step for step, _ in done} == undisturbed.keys()
    found, expected = torch.tensor(done)[:, 1], torch.tensor([undisturbed[step] for step, _ in done])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0.0)


def test_a_killed_rank_ends_all_and_fewer_go_on(here: Path, undisturbed: dict[int, float]) -> None:
    run = here / "killed"
    for size, rank, step in ((4, 2, 8), (4, 0, 17), (2, 0, 29), (2, 1, 41)):
        with Training(arguments(here / "images", run, TWO_EACH), run, size) as training:
            training.until(step)
            reached = training.step
            training.kill(rank)
            assert_lost(training, rank)
            assert checkpoints(run)[-1] >= reached - EVERY
    with Training(arguments(here / "images", run), run, 1) as training:
        assert training.end() == [0], training.err
        assert training.resumed_at() >= reached - EVERY
    assert_undisturbed(run, undisturbed)


def test_ten_kills_in_a_row(here: Path, undisturbed: dict[int, float]) -> None:
    """At random times, and in the midst of writing a checkpoint: no more is lost than the steps since the last one."""
    run, chance = here / "ten", random.Random(3)
    # What rank 0 is about to do when it dies: write its shard, make it whole, describe it, put it in place, remove an
    # old one; rank 1 writes its shard.
    writing = {1: (0, 3), 2: (0, 6), 4: (0, 8), 5: (0, 10), 7: (1, 2), 8: (0, 13)}
    start = 0
    for kill in range(10):
        rank, event = writing.get(kill, (chance.randrange(2), None))
        faults = {} if event is None else {rank: (die_while_writing, start + 2 * EVERY, event)}
        with Training(arguments(here / "images", run), run, 2, faults) as training:
            if event is None:
                training.until(start + chance.randrange(EVERY + 1, 2 * EVERY + 2))
                training.kill(rank)
            assert_lost(training, rank)
            if kill:
                assert training.resumed_at() == start
            assert training.step - EVERY <= checkpoints(run)[-1] <= training.step
            start = checkpoints(run)[-1]
            assert len(leftovers(run)) <= 2
    assert start < STEPS
    with Training(arguments(here / "images", run), run, 2) as training:
        assert training.end() == [0, 0], training.err
    assert_undisturbed(run, undisturbed)
    assert leftovers(run) == []


def test_a_hanging_rank_ends_all_after_the_limit(here: Path) -> None:
    """The one that keeps the store, and another one, in two trainings at a time; who wakes up later ends, too."""
    seconds = 8.0
    own = [f"parallel.timeout_seconds={seconds}"]
    with ExitStack() as opened:
        trainings = [
            opened.enter_context(Training(arguments(here / "images", run, *own), run, 2))
            for run in (here / "hanging 0", here / "hanging 1")
        ]
        for rank, training in enumerate(trainings):
            training.until(4)
            training.kill(rank, signal.SIGSTOP)
        began = time.monotonic()
        for rank, training in enumerate(trainings):
            assert training.end(seconds + ENDS_WITHIN, but=(rank,))[1 - rank] == 2
            assert time.monotonic() - began > seconds - 1.0
            (line,) = training.err.splitlines()[1:]
            assert line.startswith(f"nid-train: error: {training.named(rank)}: found no answer for 8 s"), line
            training.kill(rank, signal.SIGCONT)
            assert training.end(ENDS_WITHIN) == [2, 2]
            assert training.err.splitlines()[1:] == [line]


def assert_failed(training: Training, *fragments: str) -> None:
    """All ended soon, with one line, which has these fragments."""
    assert training.end(ENDS_WITHIN) == [2] * training.size, training.err
    (line,) = lines_with(training.err, "error")
    assert [fragment for fragment in fragments if fragment not in line] == [], line
    assert "(process " not in training.err and "Traceback" not in training.err


@pytest.mark.parametrize("rank", [0, 1])
def test_a_full_disk_of_one_rank_is_everyones(here: Path, rank: int) -> None:
    run = here / f"full {rank}"
    with Training(arguments(here / "images", run), run, 2, {rank: (fill_disk, 6)}) as training:
        training.until(5)
        assert_failed(training, "step-00000006: found that writing failed (File too large)", "free some space")
    assert checkpoints(run) == [3] and leftovers(run) == []
    with Training(arguments(here / "images", run, "training.steps=6"), run, 2) as training:
        assert training.end() == [0, 0] and training.resumed_at() == 3


def test_an_image_that_one_rank_cannot_read_any_more(here: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for seed, name in enumerate(("a.png", "d.png", "e.png")):
        Image.fromarray(picture(seed, 320, 320)).save(images / name)  # above a megabyte: read for every batch
    shutil.copytree(images, tmp_path / "of rank 1")
    write_sizes(tmp_path)
    run = tmp_path / "run"
    own = ["signals.cache_mb=1", "training.checkpoint_every=0"]

    def given(rank: int) -> list[str]:
        more = [f"signals.path={tmp_path / 'of rank 1'}"] if rank == 1 else []
        return arguments(images, run, *own, *more)

    with Training(given, run, 2) as training:
        training.until(4)
        (tmp_path / "of rank 1" / "a.png").write_bytes(b"no image")
        assert_failed(training, "of rank 1/a.png: found", "PNG")
        (kept,) = checkpoints(run)
        assert kept >= training.step - 1
        assert f"an image cannot be read; wrote {run}/checkpoints/step-{kept:08d}" in training.err


def test_a_log_that_cannot_be_written_on_is_said_once(here: Path) -> None:
    """An error of the first rank alone, that it tells nobody."""
    run = here / "log"
    own = ["training.checkpoint_every=0", "training.steps=1000"]
    with Training(arguments(here / "images", run, *own), run, 2, {0: (limit_files, 8000)}) as training:
        training.until(3)
        assert_failed(training, "log.jsonl: found that writing failed (File too large)", "--resume auto")


def test_sigterm_to_all_and_to_one(here: Path, undisturbed: dict[int, float]) -> None:
    run, start = here / "terminated", 0
    for ranks in ((0, 1), (1,)):
        with Training(arguments(here / "images", run, "training.checkpoint_every=0"), run, 2) as training:
            training.until(start + 7)
            for rank in ranks:
                training.kill(rank, signal.SIGTERM)
            assert training.end(ENDS_WITHIN) == [0, 0], training.err
            first, following = training.out.splitlines()
            assert first.startswith(f"stopped by SIGTERM at step {training.step}, checkpoint written to {run}/checkp")
            assert following.endswith("--resume auto")
            start = training.step
            assert checkpoints(run)[-1] == start
            assert len(lines_with(training.err, "SIGTERM")) == (0 in ranks) and "error" not in training.err
    with Training(arguments(here / "images", run), run, 2) as training:
        assert training.end() == [0, 0], training.err
    assert_undisturbed(run, undisturbed)


def infect(step: int) -> None:
    """This process's loss is no number at that step."""
    whole = trainer.Trainer._accumulate

    def accumulate(self: trainer.Trainer, *arguments: Any) -> tuple[float, dict[str, float]]:
        total, parts = whole(self, *arguments)
        return (math.nan if self.step + 1 == step else total), parts

    trainer.Trainer._accumulate = accumulate


@pytest.mark.parametrize("ranks", [(0, 1), (1,)])
def test_a_loss_that_is_no_number(here: Path, ranks: tuple[int, ...]) -> None:
    run = here / f"nan {ranks}"
    with Training(arguments(here / "images", run), run, 2, {rank: (infect, 5) for rank in ranks}) as training:
        training.until(3)
        good = run / "checkpoints" / "step-00000003"
        assert_failed(training, "training step 5: found loss nan", f"the last good checkpoint is {good}")
    assert checkpoints(run) == [3]


def test_a_port_in_use(here: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with Training(arguments(here / "images", here / "port"), here / "port", 2, port=port) as training:
            assert_failed(training, f"port {port}: found in use by another program", "MASTER_PORT")
    assert not (here / "port").exists()
