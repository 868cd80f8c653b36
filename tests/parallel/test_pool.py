"""Pieces of work in any order, all of them, over processes; a worker that dies is said."""

import multiprocessing
import os
import signal
import threading

import pytest

from nid_dist.errors import UserError
from nid_dist.parallel.pool import Pool, open_pool


def square(number: int) -> int:
    return number**2


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("cores", [1, 2])
def test_every_piece_is_done(cores: int) -> None:
    with open_pool(cores) as pool:
        assert isinstance(pool, Pool) and pool.workers == cores
        assert sorted(pool.map(square, range(30))) == [number**2 for number in range(30)]
        assert list(pool.map(square, [])) == []


def test_a_dead_worker_is_said() -> None:
    with open_pool(2) as pool:
        assert pool is not None
        with pytest.raises(UserError, match="ended by itself"):
            list(pool.map(die, range(3)))


def wait(number: int) -> int:
    import ctypes

    ctypes.PyDLL(None).sleep(60)  # with the lock of Python, as in the middle of a computation
    return number


def interrupt() -> None:
    with open_pool(2) as pool:
        assert pool is not None
        next(pool.map(square, range(2)))  # they have started
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        next(pool.map(wait, range(4)))


def test_control_c_ends_workers_at_once() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # also where these tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not multiprocessing.active_children()  # none of which has waited for a minute
