"""Trainings of several real processes, to be killed, stopped and hung.

Importing takes each process longer than a tiny training, so they are forked from a server that has imported
everything; what is started by a launcher or by hand imports for itself.
"""

import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from nid_dist.cli import entry
from nid_dist.cli.train import main
from nid_dist.parallel.launch import rendezvous as joining
from nid_dist.parallel.launch.network import LOOPBACK, free_port
from nid_dist.training import step as steps
from nid_dist.training.step import TrainingStep

ENDS_WITHIN = 15.0
"""Seconds in which all processes of a failed training end."""

_PATIENCE = 120.0  # seconds for a start on a busy machine
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([f"{__name__.rpartition('.')[0]}.preloaded", __name__])


def losses(run: Path) -> list[tuple[int, float]]:
    """Step and loss of every step that a run has logged, those that were done again included."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if line.endswith("}")]
    return [(line["step"], line["loss"]) for line in lines if line["event"] == "train"]


def checkpoints(run: Path) -> list[int]:
    """Steps of the checkpoints that are in place."""
    return sorted(int(path.name[len("step-") :]) for path in (run / "checkpoints").glob("step-*"))


def spoil(checkpoint: Path) -> None:
    """Leave a checkpoint as a machine may that lost its power."""
    shard = max(checkpoint.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1000] + bytes(1000))


class Training:
    """The processes of one training, as a launcher would start them; as a context manager it leaves none behind.

    Args:
        arguments: of the command, the same for all; a function of the rank where they differ.
        run: the run's folder; what the processes say goes to files beside it.
        size: how many processes.
        faults: called in a process before it begins, by rank.
        port: where rank 0 listens; None: a free one.
    """

    def __init__(
        self,
        arguments: list[str] | Callable[[int], list[str]],
        run: Path,
        size: int,
        faults: Mapping[int, tuple[Any, ...]] | None = None,
        port: int | None = None,
    ) -> None:
        self.run, self.size, self.began = run, size, time.monotonic()
        self._log = run / "log.jsonl"
        self._skip = self._log.stat().st_size if self._log.exists() else 0
        self._said = run.with_name(f"{run.name} {time.time_ns()}")
        self._said.mkdir()
        port = port or free_port()
        self.processes: list[BaseProcess] = []
        for rank in range(size):
            variables = {
                "TMPDIR": str(self._said),
                "RANK": str(rank),
                "WORLD_SIZE": str(size),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(size),
                "MASTER_ADDR": LOOPBACK,
                "MASTER_PORT": str(port),
            }
            own = arguments(rank) if callable(arguments) else arguments
            process = _server.Process(
                target=_train, args=(own, variables, self._said, (faults or {}).get(rank)), daemon=True
            )
            process.start()
            self.processes.append(process)

    def __enter__(self) -> "Training":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()

    @property
    def err(self) -> str:
        """What all processes have said on stderr so far."""
        return self._all("err")

    @property
    def out(self) -> str:
        """What all processes have said on stdout so far."""
        return self._all("out")

    @property
    def left(self) -> list[str]:
        """What is in the folder for temporary files, besides what was said."""
        return [path.name for path in self._said.iterdir() if not path.name.startswith(("out-", "err-"))]

    @property
    def step(self) -> int:
        """The last step that this training has logged, 0 before the first."""
        if not self._log.exists():
            return 0
        with open(self._log, "rb") as log:
            log.seek(self._skip)
            steps = re.findall(rb'"step": (\d+), "event": "train"', log.read())
        return int(steps[-1]) if steps else 0

    def until(self, step: int) -> None:
        """Wait until that step is logged."""
        end = time.monotonic() + _PATIENCE
        while self.step < step:
            assert self.codes == [None] * self.size or self.step >= step, (self.codes, self.err)
            assert time.monotonic() < end, self.err
            time.sleep(0.002)

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def end(self, within: float = _PATIENCE, but: tuple[int, ...] = ()) -> list[int | None]:
        """Wait until all processes have ended, except some.

        Args:
            within: seconds.
            but: ranks that may stay.

        Returns:
            The exit codes, by rank; negative: the signal that killed it.
        """
        end = time.monotonic() + within
        for rank, process in enumerate(self.processes):
            if rank not in but:
                process.join(max(0.0, end - time.monotonic()))
                assert not process.is_alive(), f"rank {rank} after {within} s:\n{self.err}"
        return self.codes

    @property
    def codes(self) -> list[int | None]:
        """Exit codes, by rank; None: it runs."""
        return [process.exitcode for process in self.processes]

    def named(self, rank: int) -> str:
        """How a rank is called when it is lost."""
        return f"rank {rank} (process {self.processes[rank].pid} on {os.uname().nodename})"

    def resumed_at(self) -> int:
        """The step that this training has gone on from."""
        (step,) = re.findall(r"^resumed \S.* at step (\d+)$", self.err, re.MULTILINE)
        return int(step)

    def _all(self, stream: str) -> str:
        return "".join(path.read_text() for path in sorted(self._said.glob(f"{stream}-*")))


def die_while_writing(step: int, event: int) -> None:
    """Let this process be killed in the middle of writing a checkpoint.

    Args:
        step: of the checkpoint.
        event: just before which thing (0, 1, ...) that it does to hidden files, where 0 is its first.
    """
    _when_writing(step, event, lambda: os.kill(os.getpid(), signal.SIGKILL))


def fill_disk(step: int) -> None:
    """Let none of this process's files grow beyond 1000 bytes from the checkpoint of that step on."""
    _when_writing(step, 0, lambda: limit_files(1000))


def limit_files(size: int) -> None:
    """Let none of this process's files grow beyond some bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def diverge(step: int, loss: float | None) -> None:
    """Let this process's part of a step's loss be such a number; None: codes cannot be solved."""
    run, calls, plain = TrainingStep.run, [], dict(steps.LOSSES)

    def counted(self: TrainingStep, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == step and loss is None:
            raise torch.linalg.LinAlgError("not positive-definite")
        return run(self, *arguments, **options)

    def spoilt(mode: str, *arguments: Any) -> Any:
        found = plain[mode](*arguments)
        # The number is this process's alone: all gradients are finite.
        return found if len(calls) != step or loss is None else replace(found, total=found.total + loss)

    TrainingStep.run = counted  # type: ignore[method-assign]
    steps.LOSSES |= {mode: partial(spoilt, mode) for mode in plain}


def hurry() -> None:
    """Wait a second for the program that listens where the first process should, and for that to say so."""
    joining._LOOK_UP = entry._WORD = 1.0


def _when_writing(step: int, event: int, call: Callable[[], object]) -> None:
    seen = -1

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if name in ("open", "os.mkdir", "os.rename", "os.rmdir", "shutil.rmtree"):
            begins = f".step-{step:08d}.tmp" in str(arguments[0])
            about_hidden = (begins or seen >= 0) and "/.step-" in f"{arguments[0]} {arguments[1]}"
            seen += about_hidden
            if about_hidden and seen == event:
                call()

    sys.addaudithook(hook)


def _train(arguments: list[str], variables: Mapping[str, str], said: Path, fault: tuple[Any, ...] | None) -> None:
    os.environ |= variables
    tempfile.tempdir = None  # which may have been looked up before
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(said / f"{name}-{variables['RANK']}", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    if fault is not None:
        fault[0](*fault[1:])
    sys.exit(main(arguments))
