"""Faults from within: what a process of a training does to itself before it begins, so that it fails later.

Each is called in the process, before the command.
"""

import errno
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from nid_dist.training.step import TrainingStep

_WRITES = ("open", "os.mkdir", "os.rename", "os.rmdir", "shutil.rmtree")
TEMPORARY = ".step-{:08d}.tmp"
"""How the folder begins in which a checkpoint is written."""


def die_while_writing(step: int, event: int) -> None:
    """Be killed in the middle of writing a checkpoint.

    Args:
        step: of the checkpoint.
        event: just before which thing (0, 1, ...) that it does to hidden files, where 0 is its first.
    """
    _when_writing(step, event, _die)


def die_while_replacing(number: int, step: int, event: int) -> None:
    """Be asked to stop in the `number`-th step from here, which ends with a checkpoint: it is written twice.

    The process is killed before thing `event` that it does to hidden files, both times counted.
    """
    run, calls = TrainingStep.run, []

    def counted(self: TrainingStep, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return run(self, *arguments, **options)

    TrainingStep.run = counted  # type: ignore[method-assign]
    die_while_writing(step, event)


def die_in_write(step: int, ending: str, size: int) -> None:
    """Be killed by the kernel when a file of a checkpoint has so many bytes.

    Args:
        step: of the checkpoint.
        ending: of the file's name.
        size: in bytes, below what the file would have.
    """

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open" and TEMPORARY.format(step) in str(arguments[0]) and str(arguments[0]).endswith(ending):
            # Python has it ignored; as the kernel has it, the write that goes on beyond the limit ends the process.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            limit_files(size)

    sys.addaudithook(hook)


def fill_disk(step: int) -> None:
    """Let no file grow beyond 1000 bytes from the checkpoint of that step on."""
    _when_writing(step, 0, lambda: limit_files(1000))


def limit_files(size: int) -> None:
    """Let no file grow beyond some bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def refuse_writing(step: int) -> None:
    """Let the file system be read-only from the checkpoint of that step on, for all that is written of it."""

    def refuse() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    _when_writing(step, 0, refuse)


def shift_clock(seconds: float, number: int = 0) -> None:
    """Let the time of day be another one, from the `number`-th step from here on; 0: at once."""
    real, calls, run = time.time, [], TrainingStep.run

    def counted(self: TrainingStep, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return run(self, *arguments, **options)

    TrainingStep.run = counted  # type: ignore[method-assign]
    time.time = lambda: real() + (seconds if len(calls) >= number else 0.0)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _when_writing(step: int, event: int, call: Callable[[], object]) -> None:
    seen = -1

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if name in _WRITES:
            begins = TEMPORARY.format(step) in str(arguments[0])
            about_hidden = (begins or seen >= 0) and "/.step-" in f"{arguments[0]} {arguments[1]}"
            seen += about_hidden
            if about_hidden and seen == event:
                call()

    sys.addaudithook(hook)
