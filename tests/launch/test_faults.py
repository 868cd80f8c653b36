"""What becomes of a training of several processes when one is killed, hangs, has an error of its own, or is stopped."""

import math
import os
import random
import re
import shutil
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from PIL import Image

from nid_dist.benchmarks.faults import jobs
from nid_dist.benchmarks.faults.injected import die_while_writing, fill_disk, limit_files
from nid_dist.benchmarks.faults.processes import ENDS_WITHIN, Training, checkpoints, losses, spoil
from nid_dist.parallel.launch.network import free_port
from tests.launch.injected import die_forming, diverge, hurry
from tests.launch.launching import TRAIN, launcher
from tests.tiny import picture, write_sizes

STEPS, EVERY = 60, 3
# Neither the rates nor the phase depend on how many steps there will be.
BASE = [f"training.steps={STEPS}", f"training.checkpoint_every={EVERY}", "training.keep=2"]
BASE += ["coding.phases=[{mode: solve}]", "optimizer.schedule=constant", "parallel.timeout_seconds=60.0"]
TWO_EACH = "parallel.expert_parallel_size=2"


def arguments(images: Path, run: Path, *overrides: str) -> list[str]:
    own = [f"signals.path={images}", f"logging.run_dir={run}", *BASE, *overrides]
    return ["--config", str(images.parent / "tiny.yaml"), "--resume", "auto", "--set", *own]


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
    assert training.left == []


@pytest.fixture(scope="module")
def here(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images and their configuration."""
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
    run, reached = here / "killed", 0
    for size, rank, step, *settings in (
        (4, 2, 6, TWO_EACH, "parallel.zero_stage=1"),
        (4, 0, 12, TWO_EACH, "parallel.engine=fairscale"),
        (2, 0, 18, TWO_EACH),
        (2, 1, 24, "parallel.expert_parallel_size=1", "parallel.zero_stage=1"),
    ):
        with Training(arguments(here / "images", run, *settings), run, size) as training:
            training.until(step)
            assert reached == 0 or training.resumed_at() >= reached - EVERY
            training.kill(rank)
            assert_lost(training, rank)
            reached = training.step
    with Training(arguments(here / "images", run), run, 1) as training:
        assert training.end() == [0], training.err
        assert training.resumed_at() >= reached - EVERY
    assert_undisturbed(run, undisturbed)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_lost_while_groups_form(here: Path, rank: int) -> None:
    """The others wait for its address, which no connection tells them will not come."""
    run = here / f"forming {rank}"
    with Training(arguments(here / "images", run), run, 2, {rank: (die_forming,)}) as training:
        assert_lost(training, rank)


def test_ten_kills_in_a_row(here: Path, undisturbed: dict[int, float]) -> None:
    """At random times, and in the midst of writing a checkpoint: no more is lost than the steps since the last one."""
    run, chance = here / "ten", random.Random(3)
    # What rank 0 is about to do when it dies: write its shard, begin to check what was written, describe it, put it in
    # place, remove an old one; rank 1 is about to write its shard.
    writing = {1: (0, 1), 2: (0, 2), 4: (0, 4), 5: (0, 7), 7: (1, 0), 8: (0, 11)}
    start = 0
    for kill in range(10):
        rank, event = writing.get(kill, (chance.randrange(2), None))
        faults = {} if event is None else {rank: (die_while_writing, start + EVERY, event)}
        with Training(arguments(here / "images", run), run, 2, faults) as training:
            if event is None:
                training.until(start + chance.randrange(EVERY + 1, 2 * EVERY + 2))
                training.kill(rank)
            assert_lost(training, rank)
            assert kill == 0 or training.resumed_at() == start
            assert training.step - EVERY <= checkpoints(run)[-1] <= training.step
        start = checkpoints(run)[-1]
        assert len(leftovers(run)) <= (rank == 0)
    assert start < STEPS - EVERY
    spoil(run / "checkpoints" / f"step-{start:08d}")
    with Training(arguments(here / "images", run), run, 2) as training:
        assert training.end() == [0, 0], training.err
        assert training.resumed_at() == start - EVERY
        (warning,) = lines_with(training.err, "warning")
        assert f"step-{start:08d}: found" in warning and "passed over" in warning
    assert_undisturbed(run, undisturbed)
    assert leftovers(run) == []
    # The corrupted one is set aside.
    assert {path.name for path in run.iterdir()} == {path.name for path in (here / "alone").iterdir()} | {"abandoned"}


def test_a_hanging_rank_ends_all_after_the_limit(here: Path) -> None:
    """The one that keeps the store, and another one, in two trainings at a time; who wakes up later ends, too."""
    seconds, runs = 8.0, (here / "hanging 0", here / "hanging 1")
    with ExitStack() as opened:
        trainings = [
            Training(arguments(here / "images", run, f"parallel.timeout_seconds={seconds}"), run, 2) for run in runs
        ]
        for training in trainings:
            opened.enter_context(training)
        for rank, training in enumerate(trainings):
            training.until(4)
            training.kill(rank, signal.SIGSTOP)
        began = time.monotonic()
        for rank, training in enumerate(trainings):
            assert training.end(seconds + ENDS_WITHIN, but=(rank,))[1 - rank] == 2
            assert time.monotonic() - began > seconds - 1.0
            line = training.err.splitlines()[-1]
            assert line.startswith(f"nid-train: error: {training.named(rank)}: found no answer for 8 s"), line
            training.kill(rank, signal.SIGCONT)
            assert training.end(ENDS_WITHIN) == [2, 2]
            assert training.err.splitlines()[2:] == [line]  # after the device and the topology


def assert_failed(training: Training, *fragments: str) -> None:
    """All ended soon, with one line, which has these fragments."""
    assert training.end(ENDS_WITHIN) == [2] * training.size, training.err
    (line,) = lines_with(training.err, "error")
    assert [fragment for fragment in fragments if fragment not in line] == [], line
    assert "(process " not in training.err and "Traceback" not in training.err
    assert training.left == []


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

    def given(rank: int) -> list[str]:
        more = [f"signals.path={tmp_path / 'of rank 1'}"] if rank == 1 else []
        return arguments(images, run, "signals.cache_mb=1", "training.checkpoint_every=0", *more)

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


@pytest.mark.parametrize(
    ("losses_of", "found"),
    [
        ({0: math.nan, 1: math.nan}, "loss nan"),
        ({0: math.inf, 1: -math.inf}, "loss nan"),
        ({1: math.nan}, "loss nan"),
        ({1: None}, "that codes cannot be solved (not positive-definite)"),
    ],
)
def test_a_training_that_diverges(here: Path, tmp_path: Path, losses_of: dict[int, float | None], found: str) -> None:
    run = tmp_path / "run"
    faults = {rank: (diverge, 5, loss) for rank, loss in losses_of.items()}
    with Training(arguments(here / "images", run), run, 2, faults) as training:
        training.until(3)
        good = run / "checkpoints" / "step-00000003"
        assert_failed(training, f"training step 5: found {found}", f"the last good checkpoint is {good}")
    assert checkpoints(run) == [3]


def test_a_port_of_another_training(here: Path) -> None:
    """Which goes on, and is not kept from naming a rank that it loses later."""
    port, endless = free_port(), here / "endless"
    own = arguments(here / "images", endless, "training.steps=100000", "training.checkpoint_every=0")
    with Training(own, endless, 2, port=port) as training:
        training.until(2)
        with Training(arguments(here / "images", here / "port"), here / "port", 2, {1: (hurry,)}, port=port) as other:
            assert_failed(other, f"port {port}: found in use by another program", "--master_port", "MASTER_PORT")
        training.until(training.step + 3)
        training.kill(1)
        assert_lost(training, 1)
    assert not (here / "port").exists()


def test_a_port_of_another_program(here: Path) -> None:
    run = here / "port"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        own = arguments(here / "images", run, "parallel.rendezvous_seconds=1.0")
        with Training(own, run, 2, {1: (hurry,)}, port=port) as training:
            assert_failed(training, f"port {port}: found in use by another program", "MASTER_PORT")
        started_by = [launcher("deepspeed"), "--num_gpus", "2", "--master_port", str(port)]
        outcome = jobs.run([*started_by, TRAIN, *arguments(here / "images", run)])
    (line,) = outcome.complaints
    assert outcome.codes == [2] and line.startswith(f"nid-train: error: port {port}: found in use by another program")
    assert "Traceback" not in outcome.err and not run.exists()


def test_ctrl_c_under_deepspeeds_launcher(here: Path, undisturbed: dict[int, float]) -> None:
    """A terminal sends it to all processes; the launcher then waits half a minute, in which a checkpoint is written."""
    run = here / "interrupted"
    started_by = [launcher("deepspeed"), "--num_gpus", "2", "--master_port", str(free_port()), TRAIN]
    with jobs.started([*started_by, *arguments(here / "images", run, "training.checkpoint_every=0")]) as job:
        while not ((run / "log.jsonl").exists() and losses(run)):
            assert job.runs, job.end()
            time.sleep(0.01)
        for pid in job.pids():
            os.kill(pid, signal.SIGINT)
        outcome = job.end()
    (stopped,) = checkpoints(run)
    # The launcher sends SIGTERM on, which may come first.
    assert re.search(
        f"stopped by SIG(INT|TERM) at step {stopped}, checkpoint written to {run}/checkpoints", outcome.out
    )
    assert outcome.err.count(": finishing this step") == 1 and "nid-train: " not in outcome.err
    with Training(arguments(here / "images", run), run, 2) as training:
        assert training.end() == [0, 0], training.err
        assert training.resumed_at() == stopped
    assert_undisturbed(run, undisturbed)


def test_a_stop_that_mpirun_hands_on(here: Path) -> None:
    run = here / "handed"
    mpirun = [launcher("mpirun"), "--allow-run-as-root", "--oversubscribe", "-np", "2"]
    command = [*mpirun, sys.executable, TRAIN]
    with jobs.started([*command, *arguments(here / "images", run, "training.checkpoint_every=0")]) as job:
        while not ((run / "log.jsonl").exists() and losses(run)):
            assert job.runs, job.end()
            time.sleep(0.01)
        job.signal(signal.SIGUSR1)
        outcome = job.end()
    (stopped,) = checkpoints(run)
    assert outcome.codes == [0], outcome.err
    assert f"stopped by SIGUSR1 at step {stopped}, checkpoint written to {run}/checkpoints" in outcome.out
