"""Commands as a user types them, real launchers among them, with all the processes that they start."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

BIN = Path(sys.executable).parent
"""Where the launchers are that belong to this Python."""

_PATIENCE = 240.0  # seconds, for a busy machine
# What says who started a process, or where Python finds its modules: not for a job of one's own.
_OTHERS = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_",
    "MASTER_",
    "TORCHELASTIC_",
    "OMPI_",
    "PMI",
    "PRTE_",
    "SLURM_",
    "GLOO_",
    "PYTHON",
    "VIRTUAL_ENV",
)


@dataclass(frozen=True)
class Outcome:
    """Exit codes of the commands, and what all processes said together."""

    codes: list[int]
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """What the training said was wrong."""
        return [line for line in self.err.splitlines() if "nid-train: error:" in line]


class Job:
    """Commands that run at the same time, with all the processes that they start, until `end`.

    They inherit no launcher's variables, nor an activated environment, and carry a mark in their own, by which they
    are found wherever launchers put them.
    """

    def __init__(self, *commands: Sequence[str | Path]) -> None:
        self._mark = f"NID_DIST_JOB={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
        search = os.pathsep.join(folder for folder in os.get_exec_path() if Path(folder) != BIN)
        environment = {**kept, "PATH": search, "OMP_NUM_THREADS": "1", name: value}
        self._streams = out, err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._started = [
            subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            for command in commands
        ]

    def pids(self, *variables: str) -> list[int]:
        """All the job's processes that live, or those with some variables too ("RANK=1")."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if {self._mark, *variables} <= set(path.read_bytes().decode(errors="replace").split("\0")):
                    found.append(int(path.parent.name))
        return found

    @property
    def codes(self) -> list[int | None]:
        """Of the commands themselves; None: it runs."""
        return [process.poll() for process in self._started]

    @property
    def err(self) -> str:
        """What all processes have said on stderr so far."""
        return self._read(self._streams[1])

    @property
    def runs(self) -> bool:
        """Whether one of the commands does."""
        return any(process.poll() is None for process in self._started)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the commands themselves."""
        for process in self._started:
            process.send_signal(number)

    def end(self, patience: float = _PATIENCE, left_within: float = 60.0) -> Outcome:
        """Wait for the commands' end; some seconds later nothing of the job may be left."""
        limit = time.monotonic() + patience
        while self.runs and time.monotonic() < limit:
            time.sleep(0.05)
        late, left, limit = self.runs, self.pids(), time.monotonic() + left_within
        while left and not late and time.monotonic() < limit:
            time.sleep(0.05)
            left = self.pids()
        self.kill()
        codes = [process.wait() for process in self._started]
        texts = [self._read(stream) for stream in self._streams]
        for stream in self._streams:
            stream.close()
        assert not late, f"not at its end after {patience} s:\n{texts[1]}"
        assert not left, f"processes {left} outlived their launcher:\n{texts[1]}"
        return Outcome(codes, *texts)

    @staticmethod
    def _read(stream: IO[str]) -> str:
        # The processes write at the place of this file that they share with us.
        return os.pread(stream.fileno(), os.fstat(stream.fileno()).st_size, 0).decode(errors="replace")

    def kill(self) -> None:
        """End all that is left of it."""
        while left := self.pids():
            for pid in left:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            for process in self._started:
                process.poll()
            time.sleep(0.02)


@contextmanager
def started(*commands: Sequence[str | Path]) -> Iterator[Job]:
    """A job of which nothing is left afterwards."""
    job = Job(*commands)
    try:
        yield job
    finally:
        job.kill()


def run(*commands: Sequence[str | Path], patience: float = _PATIENCE) -> Outcome:
    """Run commands at the same time, to their end."""
    with started(*commands) as job:
        return job.end(patience)
