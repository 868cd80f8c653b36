"""Processes as the others see them, and their store when it does not answer."""

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from nid_dist.parallel.launch import membership
from nid_dist.parallel.launch.membership import Job, Process, answer_within, open_sockets, wait_until


def test_processes_end(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    began = membership.began(child.pid)
    assert began is not None
    other = Process(1, "node2", membership._machine(), child.pid, began)
    assert str(other) == f"rank 1 (process {child.pid} on node2)"
    assert not other.ended()
    assert Process(1, "node2", membership._machine(), child.pid, began - 1).ended()  # the number has been given again
    child.kill()
    assert wait_until(5.0, lambda: Path(f"/proc/{child.pid}/stat").read_text().split()[2] == "Z")
    assert other.ended()
    child.communicate()
    assert other.ended()
    assert not Process(1, "node2", "elsewhere", child.pid, began).ended()
    assert not Process.this(0).ended()


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(membership.tempfile, "tempdir", str(tmp_path))
    store = dist.TCPStore("127.0.0.1", 0, None, is_master=True, timeout=timedelta(seconds=5), wait_for_workers=False)
    return Job(dist.PrefixStore("a", store), "identity", 0, store.port, 0, 5.0)


def another(job: Job, rank: int) -> Job:
    return Job(job.store, job.identity, rank, job.port, 0, 5.0)


def test_what_processes_tell_each_other(job: Job) -> None:
    assert job.published(0) is None
    assert job.publish(Process.this(0)) and job.publish(Process.this(0))
    assert job.published(0) == Process.this(0)
    assert not job.publish(Process(0, "elsewhere", "", 1, 1))  # of another job, for instance
    two = [Process(rank, "node", "", 1, 1) for rank in (0, 1)]
    assert job.marked("failed", two) == set()
    another(job, 1).mark("failed")
    assert job.marked("failed", two) == {1}
    assert job.marked("left", two) == set()


def test_one_process_has_the_word(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not job.claimed()
    assert another(job, 1).claim()
    assert job.claimed() and not job.claim() and not another(job, 1).claim()
    # On another machine the store tells.
    monkeypatch.setattr(membership.tempfile, "tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    assert job.claimed() and not another(job, 2).claim()
    # Where neither can be asked, it is better to speak.
    monkeypatch.setattr(membership.tempfile, "tempdir", str(tmp_path / "nowhere"))
    lost = another(job, 2)
    lost.lost_store = True
    assert not lost.claimed() and lost.claim()


def test_a_store_that_does_not_answer(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "_PATIENCE", 0.2)
    assert job.ask(lambda store: 3) == 3
    begin = time.monotonic()
    assert job.ask(lambda store: time.sleep(20.0)) is None
    assert job.lost_store and time.monotonic() - begin < 10.0
    assert job.ask(lambda store: 3) is None
    job = another(job, 0)

    def failing(store: object) -> None:
        raise dist.DistNetworkError("gone")

    assert job.ask(failing) is None and job.lost_store


def test_a_store_that_is_gone_is_not_asked() -> None:
    program = (
        "import sys, time, torch.distributed as dist\n"
        "store = dist.TCPStore('127.0.0.1', 0, None, is_master=True, wait_for_workers=False)\n"
        "print(store.port, flush=True)\n"
        "time.sleep(60)"
    )
    keeper = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    port = int(keeper.stdout.readline())
    store = dist.TCPStore("127.0.0.1", port, None, is_master=False, wait_for_workers=False)
    job = Job(dist.PrefixStore("a", store), "identity", 1, port, 0, 5.0)
    assert job.ask(lambda store: store.add("n", 2)) == 2
    keeper.send_signal(signal.SIGKILL)
    keeper.communicate()
    assert wait_until(5.0, lambda: not job._connected())
    asked: list[object] = []
    assert job.ask(asked.append) is None and job.lost_store and asked == []


def test_waiting() -> None:
    assert answer_within(5.0, lambda: 2) == 2
    with pytest.raises(TimeoutError, match="no answer within 0.1 s"):
        answer_within(0.1, lambda: time.sleep(20.0))
    with pytest.raises(ZeroDivisionError):
        answer_within(5.0, lambda: 1 / 0)
    assert wait_until(5.0, lambda: True)
    assert not wait_until(0.1, lambda: False)


def test_sockets() -> None:
    with socket.socket() as one:
        name = os.readlink(f"/proc/self/fd/{one.fileno()}")
        assert open_sockets()[name] == one.fileno()
    assert name not in open_sockets()


def test_claims_of_days_ago_go(job: Job, tmp_path: Path) -> None:
    old, recent, foreign = (tmp_path / f"nid_dist-{name}" for name in ("0a" * 16, "1b" * 16, "notes"))
    for path in (old, recent, foreign):
        path.touch()
    for path in (old, foreign):
        os.utime(path, (time.time() - 48 * 3600,) * 2)
    assert job.claim()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([recent.name, foreign.name, "nid_dist-identity"])
