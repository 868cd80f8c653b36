"""What the processes of the tests' jobs run, and how the tests start them without a launcher.

As a program: `job.py SCENARIO RANK`, where RANK is the one that goes wrong.
"""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(Path(__file__))]
Result = tuple[int, str, str]


def environment(**changes: str) -> dict[str, str]:
    """The tests' own, without any launcher's variables, and with the programs beside Python on PATH."""
    mine = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "TORCHELASTIC_", "OMPI_", "PMI", "SLURM_", "GLOO_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changes}


def run(command: Sequence[str], **changes: str) -> Result:
    """Run one command: exit code, stdout, stderr."""
    return _result(_start(command, changes))


def run_ranks(
    size: int, port: int, *arguments: str, without: Sequence[int] = (), local_size: int | None = None, **changes: str
) -> list[Result]:
    """Run the program in several processes, as DeepSpeed's launcher starts them.

    Args:
        size: processes in all.
        port: a free one.
        arguments: of the program.
        without: ranks that are not started.
        local_size: processes for each of what they take for machines, with folders for temporary files of their own.
        changes: to the environment.
    """
    local = local_size or size
    started = []
    for rank in range(size):
        if rank not in without:
            own = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank % local, "LOCAL_SIZE": local}
            own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            place = {"JOB_MACHINE": f"{rank // local}"} if local < size else {}
            started.append(_start([*PROGRAM, *arguments], {**{k: str(v) for k, v in own.items()}, **place, **changes}))
    return [_result(process) for process in started]


def _start(command: Sequence[str], changes: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=environment(**changes), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def _result(process: subprocess.Popen[str]) -> Result:
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += "KILLED BY THE TEST"
    return process.returncode, out, err


def main(arguments: Sequence[str] | None = None) -> int:
    """Join, and let something go wrong on one rank."""
    import torch
    import torch.distributed as dist

    from nid_dist.errors import UserError
    from nid_dist.parallel import membership
    from nid_dist.parallel.joining import join, leave
    from nid_dist.parallel.launching import detect_launch

    torch.set_num_threads(1)
    scenario, wrong = sys.argv[1], int(sys.argv[2])
    wanted = UserError(f"scenario {scenario}", found="an error", expected="none", mend="go on")
    launch = detect_launch()
    if scenario == "before":
        raise wanted
    if "JOB_MACHINE" in os.environ:
        membership._machine = lambda: os.environ["JOB_MACHINE"]
    seconds = float(os.environ.get("JOB_SECONDS", "30"))
    join(launch, timeout_seconds=float(os.environ.get("JOB_TIMEOUT", "30")), rendezvous_seconds=seconds, backend="gloo")
    halves = [dist.new_group([rank]) for rank in range(launch.size)]
    total = torch.ones(1)
    dist.all_reduce(total)
    if launch.rank == wrong:
        if scenario == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if scenario == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if scenario == "hung":
            time.sleep(20)
        if scenario == "error":
            raise wanted
        if scenario == "mistake":
            raise ValueError("a mistake")
    if scenario == "all":
        raise wanted
    if scenario == "late" and launch.rank != wrong:
        time.sleep(1.0)  # not with the others in one collective operation
    if scenario != "meet":
        dist.all_reduce(total)
    warnings.warn("a warning", stacklevel=1)
    shown = {"launch": vars(launch), "sum": total.item(), "pid": os.getpid()}
    shown["seconds"] = halves[launch.rank]._get_backend(torch.device("cpu")).options._timeout.total_seconds()
    print(json.dumps(shown))
    leave()
    return 0


if __name__ == "__main__":
    from nid_dist.cli.entry import guarded

    sys.exit(guarded("nid-x", main, together=True)())
