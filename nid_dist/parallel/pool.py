"""Independent pieces of work over the processes of `mpirun`, or over the cores of this machine."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from nid_dist.errors import UserError
from nid_dist.parallel.launch.launching import launch_in

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # pieces per worker that are handed out at a time: memory does not grow with their number


class Pool:
    """Does pieces of work, by an executor or (None) in this process; results come as they are ready.

    Pieces are handed out within `starting`, as the executor starts its processes when it gets them.
    """

    def __init__(
        self,
        executor: Executor | None,
        workers: int,
        starting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._executor, self.workers, self._starting = executor, workers, starting
        self._others = set(multiprocessing.active_children())

    @contextmanager
    def ended_by_errors(self) -> Iterator[None]:
        """An error inside, Ctrl-C too, ends this machine's workers at once: nobody waits for what they still do."""
        try:
            yield
        except BaseException:
            if isinstance(self._executor, ProcessPoolExecutor):
                # No signal to Python code reaches the middle of a long computation.
                for worker in set(multiprocessing.active_children()) - self._others:
                    worker.kill()
            raise

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
                    with self._starting():
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
    executor = ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"))
    pool = Pool(executor, cores, _deaf)
    try:
        with pool.ended_by_errors():
            yield pool
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that start inside do not hear Ctrl-C, which a terminal sends to all: this one ends them."""
    resource_tracker.ensure_running()  # which would take the block away when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _mpi() -> Iterator[Any]:
    from mpi4py import MPI
    from mpi4py.futures import MPICommExecutor

    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        yield executor
