"""Places in a launch, from the environments that launchers give; those of real ones by running them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from nid_dist.errors import UserError
from nid_dist.parallel.launch.launching import Launch, detect_launch, expand_nodes, launch_in, threads_for
from nid_dist.parallel.launch.network import free_port
from tests.parallel.jobs import PROGRAM, ROOT, run

TORCH = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
DEEPSPEED = {**TORCH, "LOCAL_SIZE": "2", "CROSS_RANK": "1", "CROSS_SIZE": "2"}
TORCHRUN = {**TORCH, "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}
OPEN_MPI = {f"OMPI_COMM_WORLD_{name}": "2" for name in ("SIZE", "LOCAL_SIZE")} | {
    f"OMPI_COMM_WORLD_{name}": "1" for name in ("RANK", "LOCAL_RANK")
}
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
BATCH = {"SLURM_JOB_ID": "41234", "SLURM_NTASKS": "11", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = {
    **BATCH,
    "SLURM_STEP_ID": "7",
    "SLURM_STEP_NUM_TASKS": "11",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
    "SLURM_STEP_NODELIST": "gpu[07-08,11]",
}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Launch("none", 0, 1, 0, 1)),
        (DEEPSPEED, Launch("deepspeed", 3, 4, 1, 2, "node1", 29500)),
        (TORCHRUN, Launch("torchrun", 3, 4, 1, 2, "node1", 29500)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Launch("deepspeed", 0, 1, 0, 1)),
        ({**STEP, **OPEN_MPI, **TORCHRUN}, Launch("torchrun", 3, 4, 1, 2, "node1", 29500)),  # the innermost counts
        ({**STEP, **OPEN_MPI}, Launch("mpi", 1, 2, 1, 2)),
        (HYDRA, Launch("mpi", 1, 4, 1, 2)),
        ({**STEP, **HYDRA}, Launch("mpi", 1, 4, 1, 2)),
        (BATCH, Launch("none", 0, 1, 0, 1)),  # a script outside srun
        ({**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Launch("slurm", 0, 1, 0, 1)),
        (STEP, Launch("slurm", 9, 11, 1, 3, "gpu07", 10_000 + 41_241 - 2 * 20_000)),
        ({**STEP, "PMI_RANK": "9", "PMI_SIZE": "11"}, Launch("slurm", 9, 11, 1, 3, "gpu07", 11_241)),  # srun's own PMI
        ({**STEP, "MASTER_ADDR": "head", "MASTER_PORT": "5"}, Launch("slurm", 9, 11, 1, 3, "head", 5)),
        (
            {**BATCH, "SLURM_STEP_ID": "1", "SLURM_NTASKS": "3", "SLURM_NTASKS_PER_NODE": "3"},
            Launch("slurm", 0, 3, 0, 3, "127.0.0.1", 11_235),
        ),
    ],
)
def test_places(environment: Mapping[str, str], place: Launch) -> None:
    assert launch_in(environment) == place


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"WORLD_SIZE": None}, "environment variable WORLD_SIZE: found nothing"),
        ({"RANK": None}, "environment variable RANK: found nothing"),
        ({"RANK": "x"}, "environment variable RANK: found 'x', expected an integer"),
        ({"RANK": "-1"}, "environment variable RANK: found '-1'"),
        ({"RANK": "4"}, "rank .deepspeed.: found 4 of 4"),
        ({"LOCAL_RANK": "2"}, "rank on this machine .deepspeed.: found 2 of 2"),
        ({"LOCAL_SIZE": None}, "environment variable LOCAL_SIZE: found nothing"),
        ({"MASTER_ADDR": None}, "environment variable MASTER_ADDR: found nothing"),
        ({"MASTER_PORT": ""}, "environment variable MASTER_PORT: found nothing"),
    ],
)
def test_variables_that_are_missing_or_wrong(changes: dict[str, str | None], where: str) -> None:
    environment = {name: value for name, value in {**DEEPSPEED, **changes}.items() if value is not None}
    with pytest.raises(UserError, match=where):
        detect_launch(environment)


def test_a_task_count_that_is_not_slurms() -> None:
    with pytest.raises(UserError, match="SLURM_STEP_TASKS_PER_NODE: found 4x2"):
        detect_launch({**STEP, "SLURM_STEP_TASKS_PER_NODE": "4x2"})


def test_a_single_process() -> None:
    assert detect_launch({}, single_process=True) == Launch()
    assert detect_launch({"RANK": "0", "WORLD_SIZE": "1"}, single_process=True) == Launch()
    for environment, found in ((DEEPSPEED, "4 processes started by deepspeed"), (OPEN_MPI, "2 processes .* mpi")):
        with pytest.raises(UserError, match=f"single_process: found {found}"):
            detect_launch(environment, single_process=True)


@pytest.mark.parametrize(
    ("nodes", "expanded"),
    [
        ("", []),
        ("gpu5", ["gpu5"]),
        ("node[01-03,07],gpu5", ["node01", "node02", "node03", "node07", "gpu5"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("rack[1-2]n[5,6].x", ["rack1n5.x", "rack1n6.x", "rack2n5.x", "rack2n6.x"]),
    ],
)
def test_slurms_lists_of_nodes(nodes: str, expanded: list[str]) -> None:
    assert list(expand_nodes(nodes)) == expanded


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)))
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_for(Launch()) == 7
    assert threads_for(Launch("torchrun", 0, 4, 0, 2)) == 3
    assert threads_for(Launch("torchrun", 0, 8, 0, 8)) == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "5")
    assert threads_for(Launch("slurm", 0, 8, 0, 8)) == 5
    assert threads_for(Launch("torchrun", 0, 8, 0, 8)) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads_for(Launch()) == 2


MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe"]


def test_mpi_tells_where_to_meet() -> None:
    code, out, err = run([*MPIRUN, "-n", "2", *PROGRAM, "meet", "0"])
    assert code == 0, err
    places = sorted((json.loads(line) for line in out.splitlines()), key=lambda place: int(place["rank"]))
    assert [(p["launcher"], p["rank"], p["local_rank"]) for p in places] == [("mpi", 0, 0), ("mpi", 1, 1)]
    assert {(p["size"], p["local_size"], p["address"]) for p in places} == {(2, 2, "127.0.0.1")}
    assert len({p["port"] for p in places}) == 1
    assert [p["sum"] for p in places] == [2.0, 2.0]


def test_mpi_without_its_library(tmp_path: Path) -> None:
    # As where mpi4py finds no libmpi.so: a module of its name fails in the same way.
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").write_text("")
    (tmp_path / "mpi4py" / "MPI.py").write_text("raise RuntimeError('cannot load MPI library\\nlibmpi.so')")
    variables = {**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
    code, _, err = run([*PROGRAM, "meet", "0"], PYTHONPATH=f"{tmp_path}:{ROOT}", **variables)
    assert code == 2
    assert err.startswith("nid-x: error: mpi4py: found no MPI library (cannot load MPI library), expected the one that")
    assert len(err.splitlines()) == 1


def test_mpi_of_another_library() -> None:
    # Without its mpirun, mpi4py's library sees one process where the environment has two.
    variables = {**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
    code, _, err = run([*PROGRAM, "meet", "0"], **variables)
    assert (code, "mpirun: found 2 processes, of which mpi4py sees 1" in err) == (2, True)


def test_deepspeeds_launcher() -> None:
    options = ["--num_gpus", "2", "--no_local_rank", "--master_port", str(free_port())]
    code, out, err = run(["deepspeed", *options, PROGRAM[1], "meet", "0"])
    assert code == 0, err
    places = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert sorted((p["launcher"], p["rank"], p["local_rank"], p["local_size"]) for p in places) == [
        ("deepspeed", 0, 0, 2),
        ("deepspeed", 1, 1, 2),
    ]


@pytest.mark.parametrize("how", [["--standalone"], ["--master_port", "PORT"]])
def test_torchrun(how: list[str]) -> None:
    options = [str(free_port()) if option == "PORT" else option for option in how]
    code, out, err = run(["torchrun", *options, "--nproc_per_node", "2", PROGRAM[1], "meet", "0"])
    assert code == 0, err
    places = [json.loads(line) for line in out.splitlines()]
    assert sorted((p["launcher"], p["rank"], p["local_rank"], p["sum"]) for p in places) == [
        ("torchrun", 0, 0, 2.0),
        ("torchrun", 1, 1, 2.0),
    ]
