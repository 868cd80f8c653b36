"""A thread that watches over the other processes of a job, for a process that may be waiting for its GPU.

gloo raises where it waits for a process that is gone, but not while a group is formed: until all are, it is watched
over, too. NCCL's kernels wait for ever, and so does who waits for the GPU:
nothing can be raised there, and this thread ends the process, whose kernels end with it. NCCL's process groups, which
would do so in their own way and write pages about it, leave it to this thread, unless the user has told them otherwise.
"""

import copy
import os
import threading
import time
from collections.abc import Callable

from nid_dist.parallel.launch.failures import ErrorOfOthers, give_up
from nid_dist.parallel.launch.membership import Job, Process

_EVERY = 1.0  # seconds from one look to the next
_CHANCE = 2.0  # seconds in which a process that does not wait for its GPU notices by itself
_OTHERS = 10.0  # seconds in which those who have noticed find out who is lost, say so, and end

_VARIABLES = {
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "0",
    "TORCH_NCCL_LOG_CPP_STACK_ON_UNCLEAN_SHUTDOWN": "0",
}

_watch: "Watch | None" = None


def leave_nccl_to_watch() -> None:
    """Before the first process group of NCCL is made; what is set already stays, under its old name too."""
    for name, value in _VARIABLES.items():
        if name.removeprefix("TORCH_") not in os.environ:
            os.environ.setdefault(name, value)


def start(job: Job) -> None:
    """Watch a job's other processes from here on."""
    global _watch
    rest()
    _watch = Watch(job, nccl_error)
    _watch.start()


def rest() -> None:
    """From here on this process itself notices what becomes of the others, where it waits for them: gloo raises."""
    if _watch is not None:
        _watch.rest()


def stop() -> None:
    """From here on every process ends when it is done, and is not missed."""
    if _watch is not None:
        _watch.stop()


def nccl_error() -> str | None:
    """What NCCL has found wrong with any of this process's groups, in its own words."""
    import torch
    from torch.distributed import distributed_c10d

    for group in list(distributed_c10d._world.pg_map):
        try:
            error = group._get_backend(torch.device("cuda")).get_error().name
        except (AttributeError, RuntimeError):  # a group of the hosts
            continue
        if error != "SUCCESS":
            return "NCCL: operation timeout" if error == "TIMEOUT" else f"NCCL: remote process exited ({error})"
    return None


class Watch:
    """Looks once a second whether the other processes of a job live, and ends this one where they do not.

    Args:
        device_error: says what this process's GPU has noticed; None: nothing.
    """

    def __init__(self, job: Job, device_error: Callable[[], str | None]) -> None:
        self._job, self._device_error = copy.copy(job), device_error
        self._job.store, self._job.patience = job.second_store, job.timeout_seconds
        self._looks = 0
        self._beats: dict[int, tuple[bytes, float]] = {}  # by rank, and when it was new
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """From here on."""
        self._thread.start()

    def rest(self) -> None:
        """Look no more; this process is one of the job's still."""
        self._stopped.set()

    def stop(self) -> None:
        """Be missed by nobody any more."""
        self._stopped.set()
        self._thread.join(2 * _EVERY)
        self._job.mark("left")

    def look(self) -> ErrorOfOthers | None:
        """What is wrong with the job, if anything is."""
        self._looks += 1
        own = self._device_error()
        if own is not None:
            return ErrorOfOthers(own)
        ended = [process for process in self._job.others if process.ended()]
        silent = self._silent()
        if self._job.lost_store:
            return ErrorOfOthers("connection closed by peer: the job's store does not answer")
        if self._job.count("failed"):
            return ErrorOfOthers("connection closed by peer", noticed=True)
        # Those who have left before they ended were done.
        left = self._job.marked("left", [*ended, *silent]) if ended or silent else set()
        if any(process.rank not in left for process in ended):
            return ErrorOfOthers("connection closed by peer")
        if any(process.rank not in left for process in silent):
            return ErrorOfOthers("timed out waiting for a sign of life")
        return None

    def _silent(self) -> list[Process]:
        """Who has given no sign of life for longer than a process may be silent."""
        others, now = self._job.others, time.monotonic()
        for process, beat in zip(others, self._job.beat(self._looks) or [], strict=False):
            if self._beats.get(process.rank, (b"", now))[0] != beat:
                self._beats[process.rank] = (beat, now)
        return [p for p in others if now - self._beats.get(p.rank, (b"", now))[1] > self._job.timeout_seconds]

    def _run(self) -> None:
        while not self._stopped.wait(_EVERY):
            error = self.look()
            if error is not None:
                if not self._stopped.wait(_OTHERS if error.noticed else _CHANCE):
                    give_up(error)
                return
