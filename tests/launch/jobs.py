"""Trainings under real launchers: commands as a user types them, run to their end, and what comes of them."""

import json
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

import pytest

from nid_dist.training.run import train
from tests.tiny import tiny, write_sizes

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TRAIN = str(ROOT / "launch" / "train.py")
STEPS, LONG = 8, 40
# Neither the schedule nor the phase depends on how many steps there will be.
SETTINGS = ["coding.phases=[{mode: gate}]", "optimizer.schedule=constant", "parallel.timeout_seconds=60.0"]
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
        return [line for line in self.err.splitlines() if "nid-train: error:" in line]


class Job:
    """Commands that run at the same time, with all the processes that they start, until `end`.

    They inherit no launcher's variables, nor an activated environment, and carry a mark in their own, by which they
    are found wherever launchers put them.
    """

    def __init__(self, *commands: Sequence[str | Path]) -> None:
        self._mark = f"NID_DIST_TEST={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
        search = os.pathsep.join(folder for folder in os.get_exec_path() if Path(folder) != BIN)
        environment = {**kept, "PATH": search, "OMP_NUM_THREADS": "1", name: value}
        self._streams = out, err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._started = [
            subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT)
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
    def runs(self) -> bool:
        return any(process.poll() is None for process in self._started)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the commands themselves."""
        for process in self._started:
            process.send_signal(number)

    def end(self, patience: float = _PATIENCE) -> Outcome:
        """Wait for the end; then nothing of the job may be left."""
        limit = time.monotonic() + patience
        while self.runs and time.monotonic() < limit:
            time.sleep(0.05)
        late, left, limit = self.runs, self.pids(), time.monotonic() + 60
        while left and not late and time.monotonic() < limit:
            time.sleep(0.05)
            left = self.pids()
        self.kill()
        codes = [process.wait() for process in self._started]
        texts = []
        for stream in self._streams:
            stream.seek(0)
            texts.append(stream.read())
            stream.close()
        assert not late, f"not at its end after {patience} s:\n{texts[1]}"
        assert not left, f"processes {left} outlived their launcher:\n{texts[1]}"
        return Outcome(codes, *texts)

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


def launcher(name: str) -> str:
    """The path of a program beside Python."""
    path = BIN / name
    if not path.exists():
        pytest.skip(f"{name} is not installed in {BIN}")
    return str(path)


def arguments(images: Path, run: Path, *settings: str, steps: int = STEPS) -> list[str]:
    """Those of a short training."""
    own = [f"signals.path={images}", f"logging.run_dir={run}", f"training.steps={steps}", *SETTINGS, *settings]
    return ["--config", str(write_sizes(images)), "--set", *own]


def losses(run: Path) -> list[tuple[int, float]]:
    """Step and loss of all steps that were logged, those that were done again included."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["event"] == "train"]


def losses_alone(images: Path, folder: Path) -> list[float]:
    """Those of one process."""
    train(tiny(images, folder / "alone", *SETTINGS, f"training.steps={LONG}"))
    return [loss for _, loss in losses(folder / "alone")]


def assert_trained(outcome: Outcome, run: Path, alone: Sequence[float], steps: int = STEPS) -> None:
    """Every step, once, with the loss of one process; said by one of the processes, and nothing else."""
    assert set(outcome.codes) == {0}, outcome.err
    assert outcome.out.count(f"trained {steps} steps") == 1 and outcome.err.count("experts in total") == 1
    # Launchers may have words of their own about a store that has gone.
    assert "nid-train: " not in outcome.err, outcome.err
    found = losses(run)
    assert [step for step, _ in found] == list(range(1, steps + 1))
    assert [loss for _, loss in found] == pytest.approx(alone[:steps], rel=1e-4)


def placed(run: Path) -> tuple[int, int]:
    """How many processes there were, and how many of them shared one set of experts."""
    placement = json.loads((run / "placement.json").read_text())
    return placement["world_size"], placement["expert_parallel_size"]
