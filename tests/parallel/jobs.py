"""Jobs of several processes in which something goes wrong, run by processes forked from one, a few jobs at a time.

As a program, `jobs.py SCENARIO RANK` is one process of a job under a launcher, and RANK the one that goes wrong;
`jobs.py FOLDER` runs the jobs that FOLDER/jobs.json describes.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(Path(__file__))]
_PATIENCE = 60.0  # seconds for one of them
_LAUNCHED = 180.0  # seconds for a launcher, which may take half of a busy minute to import its own code
_AT_ONCE = 5


@dataclass(frozen=True)
class Job:
    """What to run: `size` processes, without those in `missing`, of which `wrong` goes wrong as `scenario` says.

    With `machines`, they take themselves for processes of so many, which share no folder for temporary files. When
    they are `deaf`, those that go right hear nothing of it, as if they waited for their GPUs.
    """

    scenario: str
    wrong: int = 0
    size: int = 3
    port: int = 0
    timeout: float = 30.0
    rendezvous: float = 30.0
    missing: Sequence[int] = ()
    machines: int = 1
    address: str = "127.0.0.1"
    deaf: bool = False


@dataclass
class Outcome:
    """What came of it, by rank: exit codes (-9: killed), stdout, stderr, and how many seconds it lasted.

    And what is left in the folders for temporary files.
    """

    codes: dict[int, int] = field(default_factory=dict)
    outputs: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    @property
    def spoken(self) -> list[tuple[int, str]]:
        """What the program itself has said on stderr, and which rank; PyTorch adds warnings of its own now and then."""
        start = "nid-x: "
        return [
            (rank, line.removeprefix(start))
            for rank, lines in self.errors.items()
            for line in lines.splitlines()
            if line.startswith(start)
        ]


def run_jobs(jobs: dict[str, Job], folder: Path) -> dict[str, Outcome]:
    """Run jobs; nothing of them is left afterwards."""
    (folder / "jobs.json").write_text(json.dumps({name: asdict(job) for name, job in jobs.items()}))
    run([*PROGRAM, str(folder)], patience=4 * _PATIENCE)
    outcomes = {}
    for place, name in enumerate(jobs):
        outcome = outcomes[name] = Outcome()
        for path in sorted(folder.glob(f"{place}-*.json")):
            rank = int(path.stem.partition("-")[2])
            ended = json.loads(path.read_text())
            outcome.codes[rank], outcome.seconds[rank] = ended["code"], ended["seconds"]
            outcome.outputs[rank] = path.with_suffix(".out").read_text()
            outcome.errors[rank] = path.with_suffix(".err").read_text()
        outcome.left = [path.name for path in folder.glob(f"{place}-machine-*/*")]
    return outcomes


def run(command: Sequence[str], patience: float = _LAUNCHED, **changes: str) -> tuple[int, str, str]:
    """Run one command, without any launcher's variables and with the programs beside Python on PATH.

    Returns:
        Exit code, stdout, stderr.
    """
    mine = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "TORCHELASTIC_", "OMPI_", "PMI", "SLURM_", "GLOO_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    environment = {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changes}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=patience)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err


def _fork_all(folder: Path) -> None:
    # Once for all processes, as this takes longer than all they do.
    import nid_dist.cli.entry
    import nid_dist.parallel.launch.rendezvous  # noqa: F401

    waiting = [Job(**described) for described in json.loads((folder / "jobs.json").read_text()).values()]
    jobs, running = list(waiting), dict[int, tuple[Job, Path, float]]()
    while waiting or running:
        if waiting and len({id(job) for job, _, _ in running.values()}) < _AT_ONCE:
            job = waiting.pop(0)
            for rank in set(range(job.size)) - set(job.missing):
                path = folder / f"{jobs.index(job)}-{rank}.json"
                pid = os.fork()
                if pid == 0:
                    _become(job, rank, path)
                running[pid] = (job, path, time.monotonic())
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            _, path, began = running.pop(pid)
            ended = {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}
            path.write_text(json.dumps(ended))
        for pid, (job, _, began) in running.items():
            alone = sum(other is job for other, _, _ in running.values()) == 1
            if time.monotonic() - began > _PATIENCE or (alone and job.scenario == "stopped"):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _become(job: Job, rank: int, path: Path) -> None:
    """One process of a job, as DeepSpeed's launcher starts it."""
    local = job.size // job.machines
    variables = {"RANK": rank, "WORLD_SIZE": job.size, "LOCAL_RANK": rank % local, "LOCAL_SIZE": local}
    variables |= {"MASTER_ADDR": job.address, "MASTER_PORT": job.port}
    os.environ.update({name: str(value) for name, value in variables.items()})
    for number, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(path.with_suffix(suffix), os.O_WRONLY | os.O_CREAT, 0o600), number)
    tempfile.tempdir = str(path.with_name(f"{path.stem.partition('-')[0]}-machine-{rank // local}"))
    os.makedirs(tempfile.tempdir, exist_ok=True)
    if job.machines > 1:
        from nid_dist.parallel.launch import membership

        membership._machine = lambda: str(rank // local)
    code = 1
    try:
        code = _guarded(job)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _guarded(job: Job) -> int:
    from nid_dist.cli.entry import guarded

    def command(arguments: Sequence[str] | None = None) -> int:
        _take_part(job)
        return 0

    return guarded("nid-x", command, together=True)()


def _take_part(job: Job) -> None:
    """Join, compute a sum, and let something go wrong on one rank."""
    import torch
    import torch.distributed as dist

    from nid_dist.errors import UserError
    from nid_dist.parallel.launch import failures, watching
    from nid_dist.parallel.launch.launching import detect_launch
    from nid_dist.parallel.launch.rendezvous import join

    torch.set_num_threads(1)
    error = UserError(f"scenario {job.scenario}", found="an error", expected="none", hint="go on")
    launch = detect_launch()
    if job.scenario == "before":
        raise error
    join(launch, timeout_seconds=job.timeout, rendezvous_seconds=job.rendezvous)
    alone = [dist.new_group([rank]) for rank in range(launch.size)][launch.rank]
    total = torch.ones(1)
    dist.all_reduce(total)
    if job.deaf:  # what waits for a GPU hears nothing
        silent_from = time.monotonic() + job.timeout if job.scenario == "hung" else math.inf
        if launch.rank != job.wrong:
            watching.nccl_error = lambda: "NCCL: operation timeout" if time.monotonic() > silent_from else None
        assert failures._job is not None
        watching.start(failures._job)
        if launch.rank != job.wrong:
            time.sleep(_PATIENCE)
    if job.scenario == "all":
        raise error
    if launch.rank == job.wrong:
        if job.scenario == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if job.scenario == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if job.scenario == "hung":
            time.sleep(_PATIENCE if job.deaf else job.timeout + 6.0)
        if job.scenario == "error":
            raise error
        if job.scenario == "mistake":
            raise ValueError("a mistake")
    if job.scenario != "meet":
        dist.all_reduce(torch.ones(1))
    warnings.warn("a warning", stacklevel=1)
    options = alone._get_backend(torch.device("cpu")).options
    line = json.dumps({**vars(launch), "sum": total.item(), "timeout": options._timeout.total_seconds()})
    sys.stdout.write(
        line + "\n"
    )  # at once: print() writes the end of the line by itself, between other processes' lines
    dist.destroy_process_group()
    failures.depart()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        _fork_all(Path(sys.argv[1]))
    else:
        sys.exit(_guarded(Job(sys.argv[1], int(sys.argv[2]))))
