"""Each launcher as a user calls it, on one machine: the training of one process, and errors that are said once."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from nid_dist.benchmarks.faults.jobs import BIN, run, started
from nid_dist.benchmarks.faults.processes import losses
from nid_dist.parallel.launch.network import free_port
from tests.launch.launching import LONG, ROOT, TRAIN, arguments, assert_trained, launcher, losses_alone, placed


@pytest.fixture(scope="module")
def alone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return losses_alone(images, tmp_path_factory.mktemp("alone"))


def deepspeed(*options: str) -> list[str]:
    return [launcher("deepspeed"), "--master_port", str(free_port()), *options]


def torchrun(*options: str) -> list[str]:
    return [launcher("torchrun"), "--standalone", "--nproc_per_node", "2", *options]


def mpirun(count: int = 2) -> list[str]:
    options = ["--allow-run-as-root", "--oversubscribe", "-np", str(count)]
    return [launcher("mpirun"), *options, sys.executable]


def srun() -> list[list[str]]:
    """What srun -n 2 starts on one node, with the variables that it sets (srun(1), "output environment variables")."""
    step = {
        "SLURM_JOB_ID": str(os.getpid()),  # the port follows from it
        "SLURM_JOB_NODELIST": "gpu[07-08]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS": "16",  # of the job: this step is smaller
        "SLURM_TASKS_PER_NODE": "8(x2)",
        "SLURM_STEP_ID": "3",
        "SLURM_STEP_NODELIST": "gpu08",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_NODEID": "0",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_CPUS_ON_NODE": "2",
        "SLURM_LAUNCH_NODE_IPADDR": "192.0.2.7",
        "SLURM_SRUN_COMM_HOST": "192.0.2.7",
        "PMI_SIZE": "2",  # by srun's own PMI, which a cluster may have made its default
    }
    own = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "PMI_RANK": str(rank)} for rank in range(2)]
    return [["env", *(f"{k}={v}" for k, v in {**step, **task}.items()), sys.executable] for task in own]


def test_deepspeed_without_activating_its_environment(images: Path, tmp_path: Path, alone: list[float]) -> None:
    outcome = run([*deepspeed("--num_gpus", "2"), TRAIN, *arguments(images, tmp_path / "run")])
    assert_trained(outcome, tmp_path / "run", alone)
    assert placed(tmp_path / "run") == (2, 2)


def test_deepspeed_with_a_module_a_hostfile_and_an_active_environment(
    images: Path, tmp_path: Path, alone: list[float]
) -> None:
    (tmp_path / "hosts").write_text("# one node\nlocalhost slots=2\n")
    active = ["env", f"PATH={BIN}{os.pathsep}{os.environ['PATH']}", f"VIRTUAL_ENV={BIN.parent}", "deepspeed"]
    nodes = ["--hostfile", str(tmp_path / "hosts"), "--no_ssh", "--node_rank", "0", "--master_addr", "localhost"]
    _, *options = deepspeed(*nodes, "--module", "nid_dist.cli.train")
    given = arguments(images, tmp_path / "run", "parallel.zero_stage=1", "parallel.expert_parallel_size=1")
    outcome = run([*active, *options, *given])
    assert_trained(outcome, tmp_path / "run", alone)
    assert placed(tmp_path / "run") == (2, 1)


def test_torchrun_starts_again_after_a_kill(images: Path, tmp_path: Path, alone: list[float]) -> None:
    folder = tmp_path / "run"
    log = folder / "log.jsonl"
    given = arguments(images, folder, "training.checkpoint_every=5", steps=LONG)
    with started([*torchrun("--max-restarts", "2"), TRAIN, *given, "--resume", "auto"]) as job:
        while not (log.exists() and log.read_text().count('"train"') > 6):
            assert job.runs, job.end()
            time.sleep(0.01)
        (killed,) = job.pids("RANK=1")
        os.kill(killed, signal.SIGKILL)
        outcome = job.end()
    assert outcome.codes == [0], outcome.err
    (complaint,) = outcome.complaints
    assert complaint.startswith(f"nid-train: error: rank 1 (process {killed} on ") and "found ended" in complaint
    assert outcome.out.count(f"trained {LONG} steps") == 1
    steps = [step for step, _ in losses(folder)]
    again = next(place for place in range(1, len(steps)) if steps[place] <= steps[place - 1])
    # From the last checkpoint on, after which five steps more at most had been done.
    assert steps[again] % 5 == 1 and steps[again - 1] - steps[again] <= 5
    assert f"at step {steps[again] - 1}" in outcome.err
    assert steps == [*range(1, steps[again - 1] + 1), *range(steps[again], LONG + 1)]
    assert [loss for _, loss in losses(folder)] == pytest.approx([alone[step - 1] for step in steps], rel=1e-4)


def test_mpirun(images: Path, tmp_path: Path, alone: list[float]) -> None:
    outcome = run([*mpirun(), TRAIN, *arguments(images, tmp_path / "run", "parallel.engine=fairscale")])
    assert_trained(outcome, tmp_path / "run", alone)
    assert placed(tmp_path / "run") == (2, 2)


def test_srun(images: Path, tmp_path: Path, alone: list[float]) -> None:
    outcome = run(*([*task, TRAIN, *arguments(images, tmp_path / "run")] for task in srun()))
    assert_trained(outcome, tmp_path / "run", alone)
    assert placed(tmp_path / "run") == (2, 2)


def test_no_launcher_in_a_batch_script_of_slurm(images: Path, tmp_path: Path, alone: list[float]) -> None:
    script = ["env", "SLURM_JOB_ID=1", "SLURM_NTASKS=2", "SLURM_PROCID=0", "SLURM_LOCALID=0"]
    outcome = run([*script, sys.executable, TRAIN, *arguments(images, tmp_path / "run")])
    assert_trained(outcome, tmp_path / "run", alone)
    assert placed(tmp_path / "run") == (1, 1)


# What starts it, what is wrong, and what is said of it.
DISAGREEMENTS = {
    "one process is asked for": (
        torchrun,
        "--single-process",
        "--single-process: found 2 processes started by torchrun, expected one",
    ),
    "R is larger than the world": (
        mpirun,
        "parallel.expert_parallel_size=4",
        "parallel.expert_parallel_size: found 4 with 2 process(es), expected at most 2",
    ),
    "R does not divide the world": (
        lambda: mpirun(3),
        "parallel.expert_parallel_size=2",
        "the number of processes: found 3, expected a multiple of parallel.expert_parallel_size, 2",
    ),
    "R does not divide n": (
        mpirun,
        "parallel.expert_parallel_size=3",
        "dictionary.experts 32 is not divisible by parallel.expert_parallel_size 3",
    ),
    "an engine for one process": (
        mpirun,
        "parallel.engine=local",
        "parallel.engine: found local with 2 processes (mpi)",
    ),
    "a key that DeepSpeed does not have": (
        mpirun,
        "parallel.deepspeed={zero_optimisation: {}}",
        "parallel.deepspeed.zero_optimisation: found",
    ),
}


@pytest.mark.parametrize("case", DISAGREEMENTS)
def test_what_does_not_fit_is_said_once(images: Path, tmp_path: Path, case: str) -> None:
    launch, wrong, said = DISAGREEMENTS[case]
    options = [wrong] if wrong.startswith("--") else ["--set", wrong]
    outcome = run([*launch(), TRAIN, *arguments(images, tmp_path / "run"), *options])
    if launch is torchrun:  # it tells what its processes ended with, and ends with 1 itself
        assert outcome.codes == [1] and re.search(r"exitcode *: 2", outcome.err), outcome.err
    else:
        assert outcome.codes == [2], outcome.err
    (complaint,) = outcome.complaints
    assert said in complaint and f'File "{ROOT}/nid_dist' not in outcome.err
    assert not (tmp_path / "run").exists()
