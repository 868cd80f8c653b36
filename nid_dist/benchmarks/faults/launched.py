"""A training under a launcher that may be killed, for a course as the forked ones are."""

import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nid_dist.benchmarks.faults.jobs import BIN, Job
from nid_dist.benchmarks.faults.processes import COMMAND, log_lines
from nid_dist.parallel.launch.network import free_port

LAUNCHERS = ("torchrun", "deepspeed", "mpirun")
_PATIENCE = 240.0  # seconds for a start on a busy machine


def words(launcher: str, processes: int) -> list[str]:
    """The command line that starts a training, but for its arguments."""
    program = str(BIN / launcher)
    if launcher == "torchrun":
        return [program, "--standalone", "--nproc_per_node", str(processes), "-m", COMMAND]
    if launcher == "deepspeed":
        return [program, "--num_gpus", str(processes), "--master_port", str(free_port()), "--module", COMMAND]
    own = [program, "--allow-run-as-root", "--oversubscribe", "-np", str(processes)]
    return [*own, sys.executable, "-m", COMMAND]


class Launched:
    """The processes of one training, and their launcher; a signal to rank 0 goes to the launcher.

    Args:
        launcher: of `LAUNCHERS`.
        arguments: of the command.
        run: the run's folder.
        size: how many processes.
    """

    def __init__(self, launcher: str, arguments: Sequence[str], run: Path, size: int) -> None:
        self._run, self._err = run, ""
        log = run / "log.jsonl"
        self._skip = log.stat().st_size if log.exists() else 0
        # Equal rows give equal numbers in batches of any size, as in forked processes.
        self._job = Job(["env", "MKL_ENABLE_INSTRUCTIONS=AVX2", *words(launcher, size), *arguments])

    @property
    def codes(self) -> list[int | None]:
        """The launcher's exit code; None: it runs."""
        return self._job.codes

    @property
    def step(self) -> int:
        """The last step that this training has logged, 0 before the first."""
        done = [line["step"] for line in log_lines(self._run, self._skip) if line["event"] == "train"]
        return done[-1] if done else 0

    def until(self, step: int) -> None:
        """Wait until that step is logged."""
        end = time.monotonic() + _PATIENCE
        while self.step < step:
            assert self._job.runs or self.step >= step, self._job.err
            assert time.monotonic() < end, self._job.err
            time.sleep(0.02)

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to the launcher, for rank 0."""
        if self._job.runs and rank == 0:
            self._job.signal(signal.Signals(number))

    def end(self, within: float = _PATIENCE) -> list[int]:
        """Wait until all processes have ended: the launcher's exit code."""
        outcome = self._job.end(within, left_within=within)
        self._err = outcome.err
        return outcome.codes

    def resumed_at(self) -> int:
        """The step that this training has gone on from; 0: it has begun anew."""
        found = re.findall(r"^resumed \S.* at step (\d+)$", self._err or self._job.err, re.MULTILINE)
        return int(found[-1]) if found else 0

    def close(self) -> None:
        """End what is left of it."""
        self._job.kill()


def starting(launcher: str) -> Any:
    """For a course: what begins a training by that launcher."""

    def start(
        arguments: list[str], run: Path, size: int, faults: Mapping[int, tuple[Any, ...]] | None = None
    ) -> Launched:
        assert not faults
        return Launched(launcher, arguments, run, size)

    return start
