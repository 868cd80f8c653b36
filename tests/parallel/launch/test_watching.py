"""What a process sees of the others while it waits for its GPU, and that a job that is well is left alone."""

import os
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist
from torch.distributed import distributed_c10d

from nid_dist.parallel.launch import watching
from nid_dist.parallel.launch.failures import is_lost_connection
from nid_dist.parallel.launch.membership import Job, Process
from nid_dist.parallel.launch.watching import Watch, leave_nccl_to_watch, nccl_error


@pytest.fixture
def jobs() -> list[Job]:
    """Of two processes on two machines, each as it knows it."""
    store = dist.TCPStore("127.0.0.1", 0, None, is_master=True, timeout=timedelta(seconds=5), wait_for_workers=False)
    both = [replace(Process.this(rank), rank=rank, machine=str(rank)) for rank in (0, 1)]
    jobs = [Job(dist.PrefixStore("a", store), "identity", rank, store.port, 0, 5.0) for rank in (0, 1)]
    for job in jobs:
        assert job.publish(both[job.rank])
        job.processes = both
    return jobs


def watch(job: Job, found: str | None = None) -> Watch:
    return Watch(job, lambda: found)


def test_a_job_that_is_well(jobs: list[Job]) -> None:
    one, other = map(watch, jobs)
    for _ in range(3):
        assert one.look() is None and other.look() is None


def test_one_is_silent(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: now))
    one, other = map(watch, jobs)
    for now in range(20):
        assert one.look() is None
        if now < 8:
            assert other.look() is None
        if now == 13:  # one hears its last sign one second later, and then waits five
            break
    now = 14.0
    error = one.look()
    assert error is not None and is_lost_connection(error) and "timed out" in str(error) and not error.noticed
    jobs[1].mark("left")
    assert one.look() is None


def test_one_has_ended(jobs: list[Job]) -> None:
    here = [replace(process, machine=Process.this(0).machine) for process in jobs[0].processes]
    jobs[0].processes = [here[0], replace(here[1], began=here[1].began - 1)]
    error = watch(jobs[0]).look()
    assert error is not None and is_lost_connection(error) and not error.noticed
    jobs[1].mark("left")
    assert watch(jobs[0]).look() is None


def test_others_have_noticed(jobs: list[Job]) -> None:
    jobs[1].mark("failed")
    error = watch(jobs[0]).look()
    assert error is not None and error.noticed


def test_the_store_is_gone(jobs: list[Job]) -> None:
    lost = watch(jobs[0])
    lost._job.lost_store = True
    error = lost.look()
    assert error is not None and is_lost_connection(error)


@pytest.mark.parametrize(
    ("state", "expected"), [("SUCCESS", None), ("TIMEOUT", "timeout"), ("COMM_ERROR", "exited"), (None, None)]
)
def test_the_gpu_has_noticed(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch, state: str | None, expected: str | None
) -> None:
    def backend(_: Any) -> Any:
        if state is None:
            raise RuntimeError("no backend for cuda")
        return SimpleNamespace(get_error=lambda: SimpleNamespace(name=state))

    groups = [SimpleNamespace(_get_backend=backend)]
    monkeypatch.setattr(distributed_c10d, "_world", SimpleNamespace(pg_map=groups))
    found = nccl_error()
    assert (found is None) == (expected is None) and (expected or "") in (found or "")
    error = watch(jobs[0], found).look()
    assert (error is None) == (expected is None)
    assert error is None or is_lost_connection(error)


def test_who_is_not_well_is_ended_once_he_had_his_chance(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[BaseException] = []
    monkeypatch.setattr(watching, "give_up", ended.append)
    monkeypatch.setattr(watching, "_EVERY", 0.01)
    monkeypatch.setattr(watching, "_CHANCE", 0.01)
    begun = watch(jobs[0], "NCCL: operation timeout")
    begun.start()
    begun._thread.join(10.0)
    assert [str(error) for error in ended] == ["NCCL: operation timeout"]
    monkeypatch.setattr(watching, "_CHANCE", 60.0)
    begun = watch(jobs[0], "NCCL: operation timeout")
    begun.start()
    begun.stop()
    begun._thread.join(10.0)
    assert not begun._thread.is_alive() and len(ended) == 1
    assert jobs[1].marked("left", jobs[1].processes) == {0}


def test_what_nccl_is_told_unless_the_user_has_told_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"NCCL_ASYNC_ERROR_HANDLING": "2", "TORCH_NCCL_DUMP_ON_TIMEOUT": "1"}
    monkeypatch.setattr(os, "environ", told)
    leave_nccl_to_watch()
    assert "TORCH_NCCL_ASYNC_ERROR_HANDLING" not in os.environ
    assert os.environ["TORCH_NCCL_DUMP_ON_TIMEOUT"] == "1"
    assert os.environ["TORCH_NCCL_LOG_CPP_STACK_ON_UNCLEAN_SHUTDOWN"] == "0"
    del told["NCCL_ASYNC_ERROR_HANDLING"]
    leave_nccl_to_watch()
    assert os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "0"
