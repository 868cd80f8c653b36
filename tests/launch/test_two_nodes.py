"""Two nodes: network namespaces with a cable between them, each with a name, a hosts file and a launcher of its own."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from nid_dist.benchmarks.faults.jobs import run
from nid_dist.training.run import train
from tests.launch.launching import ROOT, SETTINGS, TRAIN, arguments, assert_trained, launcher, losses_alone, placed
from tests.tiny import tiny

SPACES, KINDS = ["--net", "--uts", "--mount"], ["net", "uts", "mnt"]
# The first node's own name leads it to itself, as Debian has it; and there is no way out of this network.
HOSTS = ("127.0.1.1 node1\n192.168.77.2 node2\n", "192.168.77.1 node1\n192.168.77.2 node2\n")
SET_UP = """
mount --bind {hosts} /etc/hosts
hostname node{number}
ip link set lo up
ip address add 192.168.77.{number}/24 dev eth0
ip link set eth0 up
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[list[str]]]:
    """What to put in front of a command, for each node; the namespaces last as long as the processes in them."""
    folder = tmp_path_factory.mktemp("nodes")
    with ExitStack() as stack:
        try:
            holders = [stack.enter_context(_ending(["unshare", *SPACES, "sleep", "1800"])) for _ in HOSTS]
            prefixes = [["nsenter", f"--target={each.pid}", *SPACES, "env", "-C", str(ROOT)] for each in holders]
            for holder in holders:
                _wait_for_spaces(holder)
            ends = [["netns", str(holder.pid)] for holder in holders]
            _do("ip", "link", "add", "eth0", *ends[0], "type", "veth", "peer", "name", "eth0", *ends[1])
            for number, (prefix, names) in enumerate(zip(prefixes, HOSTS, strict=True), 1):
                hosts = folder / f"hosts{number}"
                hosts.write_text(f"127.0.0.1 localhost\n{names}")
                _do(*prefix, "sh", "-ec", SET_UP.format(hosts=hosts, number=number))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', '') or error}")
        yield prefixes


@contextmanager
def _ending(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_for_spaces(holder: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 10
    while any(os.readlink(f"/proc/{holder.pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS):
        if holder.poll() is not None or time.monotonic() > limit:
            raise PermissionError(f"unshare {' '.join(SPACES)} is not permitted")
        time.sleep(0.01)


def _do(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def alone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return losses_alone(images, tmp_path_factory.mktemp("alone"))


def deepspeed(folder: Path, number: int, slots: int) -> list[str]:
    """DeepSpeed's launcher as `launch/examples/deepspeed_no_ssh.sh` calls it."""
    hosts = folder / "hosts"
    hosts.write_text(f"node1 slots={slots}\nnode2 slots={slots}\n")
    options = ["--hostfile", str(hosts), "--no_ssh", "--node_rank", str(number), "--master_addr", "node1"]
    return [launcher("deepspeed"), *options, "--master_port", "29500"]


def test_deepspeed_with_experts_across_nodes(
    nodes: list[list[str]], images: Path, tmp_path: Path, alone: list[float]
) -> None:
    given = arguments(images, tmp_path / "run", "parallel.expert_parallel_size=2")
    outcome = run(*([*node, *deepspeed(tmp_path, i, 1), TRAIN, *given] for i, node in enumerate(nodes)))
    assert_trained(outcome, tmp_path / "run", alone)
    assert placed(tmp_path / "run") == (2, 2)


def test_torchrun_with_replicas_on_nodes(
    nodes: list[list[str]], images: Path, tmp_path: Path, alone: list[float]
) -> None:
    """As `launch/examples/torchrun.sh` calls it."""
    meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", "node1:29500", "--rdzv_id", "images"]
    command = [launcher("torchrun"), "--nnodes", "2", "--nproc_per_node", "2", "--max-restarts", "3", *meeting, TRAIN]
    outcome = run(*([*node, *command, *arguments(images, tmp_path / "run")] for node in nodes))
    assert_trained(outcome, tmp_path / "run", alone)
    assert placed(tmp_path / "run") == (4, 2)


def test_mpirun_across_nodes(nodes: list[list[str]], images: Path, tmp_path: Path, alone: list[float]) -> None:
    """As `launch/examples/mpirun.sh` calls it, with something else than ssh to reach the second node."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\nshift\nexec {shlex.join(nodes[1])} sh -c "$*"\n')
    ssh.chmod(0o700)
    options = ["--allow-run-as-root", "--prtemca", "plm_ssh_agent", str(ssh), "--bind-to", "none"]
    command = [launcher("mpirun"), "-np", "2", "--host", "node1:1,node2:1", *options, sys.executable, TRAIN]
    given = arguments(images, tmp_path / "run", "parallel.expert_parallel_size=2")
    outcome = run([*nodes[0], *command, *given])
    assert_trained(outcome, tmp_path / "run", alone)
    assert placed(tmp_path / "run") == (2, 2)


def srun(nodes: list[list[str]], *command: str) -> list[list[str]]:
    """What srun starts on two nodes, with the variables that it sets."""
    step = ["SLURM_JOB_ID=77", "SLURM_STEP_ID=0", "SLURM_STEP_NUM_TASKS=2", "SLURM_STEP_TASKS_PER_NODE=1(x2)"]
    step += ["SLURM_STEP_NODELIST=node[1-2]", "SLURM_LOCALID=0"]
    tasks = [[f"SLURM_PROCID={rank}", f"SLURM_NODEID={rank}"] for rank in range(2)]
    return [[*node, *step, *task, sys.executable, *command] for node, task in zip(nodes, tasks, strict=True)]


def test_srun_across_nodes(nodes: list[list[str]], images: Path, tmp_path: Path, alone: list[float]) -> None:
    """The step's nodes and number say where to meet."""
    outcome = run(*srun(nodes, TRAIN, *arguments(images, tmp_path / "run")))
    assert_trained(outcome, tmp_path / "run", alone)
    assert placed(tmp_path / "run") == (2, 1)


def test_another_n_is_said_once_across_nodes(nodes: list[list[str]], images: Path, tmp_path: Path) -> None:
    train(tiny(images, tmp_path / "fewer", *SETTINGS, "training.steps=1", "dictionary.experts=16"))
    given = ["--resume", str(tmp_path / "fewer"), *arguments(images, tmp_path / "run")]
    outcome = run(*srun(nodes, TRAIN, *given))
    assert outcome.codes == [2, 2], outcome.err
    (complaint,) = outcome.complaints
    assert f"{tmp_path}/fewer/checkpoints: dictionary.experts: found 32 in the configuration" in complaint
    assert not (tmp_path / "run").exists()


def test_a_first_node_that_does_not_come(nodes: list[list[str]], images: Path, tmp_path: Path) -> None:
    given = [TRAIN, *arguments(images, tmp_path / "run", "parallel.rendezvous_seconds=5.0")]
    outcome = run([*nodes[1], *deepspeed(tmp_path, 1, 2), *given])
    assert outcome.codes == [2]
    (complaint,) = outcome.complaints
    assert complaint.startswith("nid-train: error: rank 0 at node1, port 29500: found no answer for 5 s (parallel.rend")
    assert not (tmp_path / "run").exists()
