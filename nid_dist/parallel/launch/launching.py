"""Who started this process, how many others there are, and where they meet: read from the environment.

The innermost launcher counts: torchrun or DeepSpeed's inside an MPI or SLURM job, MPI inside a SLURM job.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from nid_dist.errors import UserError
from nid_dist.parallel.launch import orphans
from nid_dist.parallel.launch.network import LOOPBACK, free_port, own_address

_RESTART = "start with deepspeed, torchrun, mpirun or srun, which set it, or unset RANK and WORLD_SIZE"
_FIRST_PORT, _PORTS = 10_000, 20_000  # for SLURM jobs; below the range from which systems give ports away


@dataclass(frozen=True)
class Launch:
    """One process's place among those that were started together."""

    # who started them; `deepspeed` also for variables set by hand in its manner
    launcher: Literal["none", "deepspeed", "torchrun", "mpi", "slurm"] = "none"
    rank: int = 0  # of this process
    size: int = 1  # how many there are
    local_rank: int = 0  # of this process among those on this machine
    local_size: int = 1  # how many are on this machine
    address: str = LOOPBACK  # of the machine where rank 0's store listens
    port: int = 0  # of the store; 0: any

    def __post_init__(self) -> None:
        for name, rank, size in (
            ("rank", self.rank, self.size),
            ("rank on this machine", self.local_rank, self.local_size),
        ):
            if not 0 <= rank < size:
                raise UserError(
                    f"this process's {name} ({self.launcher})",
                    found=f"{rank} of {size}",
                    expected="a rank from 0 to the number of processes - 1",
                    hint=_RESTART,
                )


def detect_launch(environment: Mapping[str, str] | None = None, *, single_process: bool = False) -> Launch:
    """Find this process's place.

    Args:
        environment: variables; None: the process's.
        single_process: whether the user asks for one process without a launcher.

    Returns:
        The place; under MPI all processes must call this, as they agree on where to meet.

    Raises:
        UserError: when variables are missing or contradict each other, MPI's library is not found, or a single process
            is asked for where there are several.
    """
    orphans.launchers()  # are known from here on
    launch = launch_in(os.environ if environment is None else environment)
    if single_process:
        if launch.size > 1:
            raise UserError(
                "single_process",
                found=f"{launch.size} processes started by {launch.launcher}",
                expected="one",
                hint="leave it out, or start without a launcher",
            )
        return Launch()
    return _met_through_mpi(launch) if launch.launcher == "mpi" and launch.size > 1 else launch


def launch_in(environment: Mapping[str, str]) -> Launch:
    """A process's place as the variables alone tell it: for MPI without an address.

    Raises:
        UserError: when variables are missing or contradict each other.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        return _as_pytorch_has_it(environment)
    for prefix, size, rank, local_rank, local_size in (
        ("OMPI_COMM_WORLD_", "SIZE", "RANK", "LOCAL_RANK", "LOCAL_SIZE"),  # Open MPI
        ("", "PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),  # MPICH, Intel MPI: Hydra
    ):
        if prefix + size in environment and not _is_of_srun(environment, prefix + rank):
            ranks = _integer(environment, prefix + size), _integer(environment, prefix + rank)
            here = (
                _integer(environment, prefix + local_size, ranks[0]),
                _integer(environment, prefix + local_rank, ranks[1]),
            )
            return Launch("mpi", ranks[1], ranks[0], here[1], here[0])
    # A batch script outside srun is a single process, whatever the job's number of tasks.
    if "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment:
        return _as_slurm_has_it(environment)
    return Launch()


def threads_for(launch: Launch) -> int:
    """How many threads a process may use without disturbing the others on its machine: OMP_NUM_THREADS where it is set.

    Otherwise it is an equal part of the cores that this process may use, at least 1.
    """
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    cores = len(os.sched_getaffinity(0))
    # srun gives each task cores of its own, then.
    if launch.launcher == "slurm" and os.environ.get("SLURM_CPUS_PER_TASK", "").isdigit():
        return max(1, min(cores, int(os.environ["SLURM_CPUS_PER_TASK"])))
    return max(1, cores // launch.local_size)


def _as_pytorch_has_it(environment: Mapping[str, str]) -> Launch:
    launcher: Literal["torchrun", "deepspeed"] = "torchrun" if "TORCHELASTIC_RUN_ID" in environment else "deepspeed"
    rank, size = _integer(environment, "RANK"), _integer(environment, "WORLD_SIZE")
    local_size = "LOCAL_WORLD_SIZE" if "LOCAL_WORLD_SIZE" in environment else "LOCAL_SIZE"
    if size == 1 and launcher == "deepspeed":
        return Launch("deepspeed", rank)
    if not environment.get("MASTER_ADDR"):
        raise _missing("MASTER_ADDR", "the name or address of rank 0's machine")
    return Launch(
        launcher,
        rank,
        size,
        _integer(environment, "LOCAL_RANK"),
        _integer(environment, local_size),
        environment["MASTER_ADDR"],
        _integer(environment, "MASTER_PORT"),
    )


def _as_slurm_has_it(environment: Mapping[str, str]) -> Launch:
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    rank, size = _integer(environment, "SLURM_PROCID"), _integer(environment, tasks)
    if size == 1:
        return Launch("slurm", rank)
    counts = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_NTASKS_PER_NODE", str(size))
    tasks_of = _tasks_per_node(counts)
    local_size = tasks_of[min(_integer(environment, "SLURM_NODEID", 0), len(tasks_of) - 1)]
    address = LOOPBACK if local_size == size else environment.get("MASTER_ADDR", "")
    if not address:
        nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
        address = next(expand_nodes(nodes), "")
    if not address:
        raise _missing("SLURM_STEP_NODELIST", "the names of the step's nodes")
    step = _integer(environment, "SLURM_JOB_ID", 0) + _integer(environment, "SLURM_STEP_ID")
    port = _integer(environment, "MASTER_PORT", _FIRST_PORT + step % _PORTS)
    return Launch("slurm", rank, size, _integer(environment, "SLURM_LOCALID"), local_size, address, port)


def _is_of_srun(environment: Mapping[str, str], rank: str) -> bool:
    """Whether PMI's variables are srun's own: MPI's library is not needed, then."""
    return (
        rank == "PMI_RANK"
        and "SLURM_STEP_ID" in environment
        and environment.get("PMI_RANK") == environment.get("SLURM_PROCID")
        and environment.get("PMI_SIZE") == environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS"))
    )


def _met_through_mpi(launch: Launch) -> Launch:
    """Let rank 0 choose a port, and tell all of it through MPI, which is not used afterwards."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise UserError(
            "mpi4py",
            found=f"no MPI library ({str(error).splitlines()[0]})",
            expected="the one that mpirun belongs to",
            hint="put its libmpi.so on LD_LIBRARY_PATH, or start with torchrun",
        ) from error
    world = MPI.COMM_WORLD
    if world.size != launch.size:
        raise UserError(
            "mpirun",
            found=f"{launch.size} processes, of which mpi4py sees {world.size}",
            expected=f"an mpirun of the library that mpi4py uses ({MPI.Get_library_version().split(',')[0]})",
            hint="use that library's mpirun, or install mpi4py for the one in use",
        )
    here = world.Split_type(MPI.COMM_TYPE_SHARED)
    local_rank, local_size = here.rank, here.size
    here.Free()
    # As bytes: mpi4py's methods for objects would pickle them.
    message = bytearray(512)
    if world.rank == 0:
        text = f"{LOOPBACK if local_size == world.size else own_address()} {free_port()}".encode()
        message[: len(text)] = text
    world.Bcast([message, MPI.BYTE], root=0)
    address, port = message.rstrip(b"\0").decode().split()
    return replace(
        launch, rank=world.rank, local_rank=local_rank, local_size=local_size, address=address, port=int(port)
    )


def expand_nodes(nodes: str) -> Iterator[str]:
    """The nodes that SLURM abbreviates: "node[01-03,07],gpu5" are node01, node02, node03, node07 and gpu5."""
    for name in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", nodes):
        # Texts and brackets alternate, beginning and ending with a text.
        parts = re.split(r"\[([^\]]*)\]", name)
        choices = [list(_numbers(part)) if place % 2 else [part] for place, part in enumerate(parts)]
        yield from ("".join(choice) for choice in product(*choices))


def _numbers(ranges: str) -> Iterator[str]:
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield f"{number:0{len(first)}}"


def _tasks_per_node(counts: str) -> list[int]:
    """SLURM's "4(x2),3" is 4, 4, 3."""
    tasks: list[int] = []
    for part in counts.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if match is None:
            raise UserError("SLURM_STEP_TASKS_PER_NODE", found=counts, expected="such as 4(x2),3", hint="unset it")
        tasks += [int(match[1])] * int(match[2] or 1)
    return tasks


def _integer(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    if name not in environment and default is not None:
        return default
    if not environment.get(name):
        raise _missing(name, "an integer")
    if not environment[name].strip().isdigit():
        raise UserError(
            f"environment variable {name}", found=repr(environment[name]), expected="an integer", hint=_RESTART
        )
    return int(environment[name])


def _missing(name: str, expected: str) -> UserError:
    return UserError(f"environment variable {name}", found="nothing", expected=expected, hint=_RESTART)
