"""Trainings of several real processes, to be killed, stopped and hung.

Importing takes each process longer than a tiny training, so they are forked from a server that has imported
everything; what is started by a launcher or by hand imports for itself.
"""

import json
import multiprocessing
import os
import re
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from nid_dist.parallel.launch.network import LOOPBACK, free_port

ENDS_WITHIN = 15.0
"""Seconds in which all processes of a failed training end."""

_PATIENCE = 120.0  # seconds for a start on a busy machine
_server = multiprocessing.get_context("forkserver")
# The last one is what a process repeats whose parent is nid-benchmark.
_server.set_forkserver_preload([f"{__name__.rpartition('.')[0]}.preloaded", __name__, "nid_dist.cli.benchmark"])
COMMAND = "nid_dist.cli.train"
"""The module that a launcher would start."""


def losses(run: Path) -> list[tuple[int, float]]:
    """Step and loss of every step that a run has logged, those that were done again included."""
    return [(line["step"], line["loss"]) for line in log_lines(run) if line["event"] == "train"]


def log_lines(run: Path, skip: int = 0) -> list[dict[str, Any]]:
    """Whole lines of a run's log, from a byte on; one that a process could not end is left out."""
    log = run / "log.jsonl"
    text = log.read_bytes()[skip:].decode() if log.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


def checkpoints(run: Path) -> list[int]:
    """Steps of the checkpoints that are in place."""
    return sorted(int(path.name[len("step-") :]) for path in (run / "checkpoints").glob("step-*"))


def spoil(checkpoint: Path) -> None:
    """Leave a checkpoint as a machine may that lost its power."""
    shard = max(checkpoint.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1000] + bytes(1000))


def launch_variables(rank: int, size: int, port: int) -> dict[str, str]:
    """What a launcher tells one of some processes of this machine, with rank 0's store at a port."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": LOOPBACK,
        "MASTER_PORT": str(port),
    }


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
            variables = {"TMPDIR": str(self._said), **launch_variables(rank, size, port)}
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
        self.close()

    def close(self) -> None:
        """End what is left of it."""
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
        """The step that this training has gone on from; 0: it has begun anew."""
        found = re.findall(r"^resumed \S.* at step (\d+)$", self.err, re.MULTILINE)
        return int(found[-1]) if found else 0

    def _all(self, stream: str) -> str:
        return "".join(path.read_text() for path in sorted(self._said.glob(f"{stream}-*")))


def _train(arguments: list[str], variables: Mapping[str, str], said: Path, fault: tuple[Any, ...] | None) -> None:
    os.environ |= variables
    tempfile.tempdir = None  # which may have been looked up before
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(said / f"{name}-{variables['RANK']}", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    if fault is not None:
        fault[0](*fault[1:])
    sys.argv = [COMMAND, *arguments]
    runpy.run_module(COMMAND, run_name="__main__")
