"""Independent pieces of work over the processes of `mpirun`, or over the cores of this machine."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from nid_dist.errors import UserError
from nid_dist.parallel.launch.launching import launch_in

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # pieces per worker that are handed out at a time: memory does not grow with their number


class Pool:
    """Does pieces of work, by an executor or (None) in this process; results come as they are ready."""

    def __init__(self, executor: Executor | None, workers: int) -> None:
        self._executor, self.workers = executor, workers

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Do every piece; the results come in any order.

        The work is a function of a module, whose arguments and results can be sent.

        Raises:
            UserError: when a worker has ended by itself.
        """
        if self._executor is None:
            yield from map(work, items)
            return
        rest = iter(items)
        running: set[Future[Result]] = set()
        try:
            while True:
                while len(running) < _AHEAD * self.workers and (item := next(rest, self)) is not self:
                    running.add(self._executor.submit(work, item))  # type: ignore[arg-type]
                if not running:
                    return
                done = next(as_completed(running))
                running.remove(done)
                yield done.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker",
                found="that it ended by itself (too little memory?)",
                expected="its result",
                hint="run the command again, which keeps what is done, with fewer processes",
            ) from error
        finally:
            for each in running:
                each.cancel()


@contextmanager
def open_pool(cores: int | None = None) -> Iterator[Pool | None]:
    """A pool of all processes that `mpirun` started, but the first, which hands out; else of this machine's cores.

    Args:
        cores: processes where there is no `mpirun`; None: one for each core.

    Yields:
        The pool; None in the processes that only work, once all work is done.
    """
    if launch_in(os.environ).size > 1:
        with _mpi() as executor:
            yield None if executor is None else Pool(executor, executor.num_workers)
        return
    cores = cores or len(os.sched_getaffinity(0))
    if cores == 1:
        yield Pool(None, 1)
        return
    # Spawned: a forked process may hold locks of PyTorch's threads.
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as executor:
        try:
            yield Pool(executor, cores)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _mpi() -> Iterator[Any]:
    from mpi4py import MPI
    from mpi4py.futures import MPICommExecutor

    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        yield executor
