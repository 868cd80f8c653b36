"""Functions in local processes: what they return, and how all end when one fails."""

import os
import signal
import time

import pytest
import torch
import torch.distributed as dist

from nid_dist.errors import UserError
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.local_processes import run_local
from nid_dist.parallel.world import JSON


def meet(launch: Launch, factor: int) -> JSON:
    store = dist.TCPStore(launch.address, launch.port, launch.size, launch.rank == 0)
    total = store.add("total", factor * (launch.rank + 1))
    while store.add("total", 0) < 3 * factor:
        time.sleep(0.01)
    total = store.add("total", 0)
    if store.add("read", 1) < launch.size:
        while launch.rank == 0 and store.add("read", 0) < launch.size:  # which keeps the store
            time.sleep(0.01)
    return {"rank": launch.rank, "local": [launch.local_rank, launch.local_size], "total": total}


def fail(launch: Launch, how: str) -> JSON:
    if launch.rank != 1:
        time.sleep(60)
        return None
    if how == "user":
        raise UserError("here", found="this", expected="that", hint="mend it")
    if how == "lost":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "value":
        return torch.zeros(1)  # type: ignore[return-value]
    raise ValueError("so it is")


def threads(launch: Launch) -> JSON:
    return torch.get_num_threads()


def test_every_rank_answers() -> None:
    first, second = run_local(meet, 2, 10)
    assert first == {"rank": 0, "local": [0, 2], "total": 30}
    assert second == {"rank": 1, "local": [1, 2], "total": 30}


def test_one_process_has_one_thread() -> None:
    assert run_local(threads, 1) == [1]


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("user", UserError, "here: found this, expected that; mend it"),
        ("error", RuntimeError, "process 1 of 2:\n(.|\n)*ValueError: so it is"),
        ("value", RuntimeError, "process 1 of 2:\n(.|\n)*not JSON serializable"),
        ("lost", RuntimeError, "process 1 .*SIGKILL"),
    ],
)
def test_one_failure_ends_all(how: str, kind: type[Exception], message: str) -> None:
    begin = time.monotonic()
    with pytest.raises(kind, match=message):
        run_local(fail, 2, how)
    assert time.monotonic() - begin < 30
