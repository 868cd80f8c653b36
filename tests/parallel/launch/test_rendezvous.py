"""Processes that find each other, and every way in which they do not."""

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from nid_dist.errors import UserError
from nid_dist.parallel.launch import failures, rendezvous
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.membership import Process
from nid_dist.parallel.launch.network import free_port
from nid_dist.parallel.launch.rendezvous import join
from tests.parallel.jobs import Job, Outcome, run_jobs

JOBS = {
    "meet": Job("meet", timeout=27.0),
    "two machines": Job("meet", size=4, machines=2),
    "rank 1 is missing": Job("meet", missing=[1], rendezvous=4.0),
    "rank 0 is missing": Job("meet", missing=[0], rendezvous=1.0),
    "no such machine": Job("meet", address="no.such.host.invalid"),
    "port in use": Job("meet", size=2, missing=[1]),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    with socket.create_server(("", 0)) as other:
        jobs = {name: replace(job, port=free_port()) for name, job in JOBS.items()}
        jobs["port in use"] = replace(jobs["port in use"], port=other.getsockname()[1])
        yield run_jobs(jobs, tmp_path_factory.mktemp("jobs"))


@pytest.mark.parametrize("name", ["meet", "two machines"])
def test_all_meet(outcomes: dict[str, Outcome], name: str) -> None:
    outcome, job = outcomes[name], JOBS[name]
    assert outcome.codes == dict.fromkeys(range(job.size), 0), outcome.errors
    assert outcome.spoken == [(0, "warning: a warning")]
    for rank, output in outcome.outputs.items():
        told = json.loads(output)
        assert (told["rank"], told["sum"]) == (rank, float(job.size))
        # Groups made after joining have the same limit.
        assert told["timeout"] == job.timeout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "rank 1 is missing",
            r"rank 1: found not at 127.0.0.1, port \d+ after 4 s \(.*_seconds\), where 2 of 3 are, exp",
        ),
        (
            "rank 0 is missing",
            r"rank 0 at 127.0.0.1, port \d+: found no answer for 1 s \(.*; Connection refused\), expected",
        ),
        (
            "no such machine",
            r"address no.such.host.invalid: found no machine of that name \(.*\), expected rank 0's mach",
        ),
        (
            "port in use",
            r"port \d+: found in use by another program, expected a free one, where rank 0 .* --master_port",
        ),
    ],
)
def test_what_is_said_once_when_they_do_not_meet(outcomes: dict[str, Outcome], name: str, said: str) -> None:
    outcome = outcomes[name]
    assert set(outcome.codes.values()) == {2}
    assert len(outcome.spoken) == 1 and re.match(f"error: {said}", outcome.spoken[0][1]), outcome.errors


def test_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # What joining changes in this process is put back afterwards.
    monkeypatch.setattr(failures, "_job", None)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    for name in ("default_pg_timeout", "default_pg_nccl_timeout"):
        monkeypatch.setattr(distributed_c10d, name, getattr(distributed_c10d, name))
    join(Launch(), timeout_seconds=5.0, rendezvous_seconds=5.0)
    total = torch.ones(2)
    dist.all_reduce(total)
    assert total.tolist() == [1.0, 1.0]
    assert not failures.joined() and failures.speak_first() and failures.speak_first()
    dist.destroy_process_group()
    failures.depart()


@pytest.mark.parametrize("shared", [False, True])
def test_a_gpu_for_each_process(shared: bool) -> None:
    # As srun --gpus-per-task=1 has it: each process knows one GPU, as number 0.
    job = rendezvous.Job(dist.HashStore(), "job", 0, 1, 0, 1.0)
    job.processes = [Process(rank, "node", "node", 1, 1, "a" if shared else f"{rank}") for rank in range(2)]
    job.processes.append(Process(2, "other", "other", 1, 1, "c"))
    if not shared:
        rendezvous._refuse_shared_gpus(job)
        return
    with pytest.raises(UserError, match="found 2 with 1 GPU, expected a GPU for each"):
        rendezvous._refuse_shared_gpus(job)
