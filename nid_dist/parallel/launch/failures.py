"""A failure of a job of many processes: said once, with the name of the rank that is lost, and nobody left waiting."""

import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from nid_dist.errors import UserError
from nid_dist.parallel.launch.launching import launch_in
from nid_dist.parallel.launch.membership import Job, Process, open_sockets, wait_until

_GRACE = 3.0  # seconds in which every live process notices a failure
_CONTINUE = "then continue with resume=auto"

# What gloo, NCCL and the store say of other processes, in lower case: that one is silent, and that one is gone.
_SILENT = (
    "timed out waiting",
    "wait timeout",
    "socket timeout",
    "operation timeout",
    "timeout caused pair closure",
    "failed to pass monitoredbarrier",
)
_GONE = (
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "connection timed out",
    "broken pipe",
    "socket closed",
    "no route to host",
    "network is unreachable",
    "connectfullmesh failed",
    "monitoredbarrier",
    "ncclremoteerror",
    "remote process exited",
    "communicator was aborted",
)

_job: Job | None = None
_without_first = False
_ending = threading.RLock()


class LostRank(UserError):
    """Other processes of the job have ended or do not answer."""


class ErrorOfOthers(RuntimeError):
    """What a thread has noticed that this process itself may be deaf to, for `diagnose`.

    Args:
        noticed: whether others have noticed it before, and say who is lost.
    """

    def __init__(self, text: str, *, noticed: bool = False) -> None:
        super().__init__(text)
        self.noticed = noticed


def _say_and_end(error: BaseException) -> NoReturn:
    claim_the_end()
    lost = diagnose(error)
    if speak_first():
        print(f"error: {lost}", file=sys.stderr)
    end(2)


_said_by: Callable[[BaseException], NoReturn] = _say_and_end


def let_say(say_and_end: Callable[[BaseException], NoReturn]) -> None:
    """How a command says what has failed; it is called in whatever thread notices it, and ends the process."""
    global _said_by
    _said_by = say_and_end


def give_up(error: ErrorOfOthers) -> NoReturn:
    """End this process from a thread of its own, whatever the others of its threads are waiting for."""
    if error.noticed:
        claim_the_end()
        os._exit(2)
    _said_by(error)


def claim_the_end() -> None:
    """Of several threads that would end this process, each with a word of its own, only the first returns from here."""
    _ending.acquire()


def remember(job: Job) -> None:
    """From here on this process is one of a job's."""
    global _job
    _job = job


def miss_first() -> None:
    """Rank 0 has not been found, and says nothing, then."""
    global _without_first
    _without_first = True


def joined() -> bool:
    """Whether this process is one of a job of several."""
    return _job is not None and len(_job.processes) > 1


def speak_first() -> bool:
    """Whether this process is the one to report a failure of its job; the others keep silent.

    Returns:
        For a single process always True; before the processes have met, True for the first one on each machine; then
        True for the first one that asks.
    """
    if _job is not None:
        return len(_job.processes) == 1 or _job.claim()
    try:
        launch = launch_in(os.environ)
    except UserError:
        return True
    return launch.local_rank == 0 or (_without_first and launch.rank == 1)


def is_lost_connection(error: BaseException) -> bool:
    """Whether an exception, or what caused it, means that another process is gone or silent; no user's error does."""
    return _lost_connection(error) is not None


def diagnose(error: BaseException) -> LostRank:
    """Find out which processes are lost, after joining, from an error for which `is_lost_connection` holds.

    Takes three seconds at most, in which all live processes that wait for this one learn of the failure.
    """
    job, cause = _job, _lost_connection(error) or error
    assert job is not None
    silent = any(text in str(cause).lower() for text in _SILENT)
    job.mark("failed")
    _hang_up(job)
    unheard, ended = job.others, list[Process]()

    def known() -> bool:
        nonlocal unheard, ended
        marked = job.marked("failed", unheard)
        unheard = [process for process in unheard if process.rank not in marked]
        # A process that has marked its failure before it ended has not been lost: it has noticed that another was.
        ended = [process for process in unheard if process.ended()]
        return bool(ended) or not unheard or job.claimed()

    wait_until(_GRACE, known)
    if job.lost_store:
        # Who has noticed a failure is not known without it: but who kept it has failed.
        unheard = [process for process in unheard if process.rank == job.keeper] or unheard
        ended = [process for process in ended if process.rank == job.keeper] or ended
    if ended:
        return LostRank(
            _named(ended),
            found="ended",
            expected="running",
            hint=f"see its last messages, and the system's for lack of memory, {_CONTINUE}",
        )
    if unheard and silent:
        return LostRank(
            _named(unheard),
            found=f"no answer for {job.timeout_seconds:g} s (parallel.timeout_seconds)",
            expected="one",
            hint=f"see what it waits for, or raise the limit, {_CONTINUE}",
        )
    return LostRank(
        _named(unheard) if unheard else "the processes of this job",
        found="no connection any more" if unheard else f"a lost connection ({_in_short(cause)})",
        expected="one that lasts",
        hint=f"see whether the process, its machine and the network are up, {_CONTINUE}",
    )


def depart() -> None:
    """Let go of the job's store: the process that keeps it waits for the others to do so, three seconds at most."""
    job = _job
    if job is not None:
        job.mark("left")
        if job.keeper == job.rank:
            wait_until(_GRACE, lambda: all(p.ended() or job.marked("left", [p]) for p in job.others))


def end(code: int) -> NoReturn:
    """End this process of a failed job at once: nobody waits for it any longer, nor do its destructors for others."""
    with suppress(Exception):
        if _job is not None:
            _job.mark("failed")
            _hang_up(_job)
            depart()
            _job.clear()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def _lost_connection(error: BaseException) -> BaseException | None:
    """The exception, or the one behind it, that tells of a lost connection."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and not isinstance(current, UserError):
        seen.add(id(current))
        if _tells_of_others(current):
            return current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return None


def _tells_of_others(error: BaseException) -> bool:
    import torch.distributed as dist

    if isinstance(error, (dist.DistNetworkError, dist.DistStoreError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in (*_SILENT, *_GONE))


def _hang_up(job: Job) -> None:
    """Close the connections between processes, so that those who wait for this one fail now, too.

    gloo has no call for it. What was open before its groups were made (the store, a launcher's) stays open.
    """
    for name, number in open_sockets().items():
        if name not in job.sockets:
            with suppress(OSError), socket.socket(fileno=os.dup(number)) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6):
                    connection.getpeername()  # of those who only listen gloo would die
                    connection.shutdown(socket.SHUT_RDWR)


def _named(processes: Sequence[Process]) -> str:
    shown = ", ".join(map(str, processes[:4]))
    return shown if len(processes) <= 4 else f"{shown} and {len(processes) - 4} more"


def _in_short(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return re.sub(r"^\[\S+\] ", "", line).partition(". ")[0]  # without the place in gloo's source, and its advice
