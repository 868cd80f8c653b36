"""The launcher that started this process: who has lost it is stopped by nobody, and keeps its run from being resumed.

A process that a launcher started ends with it, then: torchrun, DeepSpeed's and mpirun leave theirs behind when they
are killed, and the job would go on unseen. A launcher that was left on purpose (nohup, screen) lives.
"""

import functools
import os
import time
from contextlib import suppress
from pathlib import Path

from nid_dist.parallel.launch.membership import began

_PROGRAMS = {
    *("torchrun", "deepspeed", "mpirun", "mpiexec", "orterun", "prterun", "orted", "prted"),
    *("mpiexec.hydra", "hydra_pmi_proxy"),
    *("torch.distributed.run", "torch.distributed.launch", "deepspeed.launcher.launch", "deepspeed.launcher.runner"),
}
_WORDS = 4  # of a command line that may name its program: python -u -m NAME
_EVERY = 0.5  # seconds from one look to the next


class Launchers:
    """The launchers above this process, from the nearest on: known processes with a number and a begin."""

    def __init__(self, found: list[tuple[int, int]]) -> None:
        self._found = found
        self._looked = time.monotonic()

    def ended(self) -> bool:
        """Whether one of them has ended; looks twice a second at most."""
        now = time.monotonic()
        if not self._found or now - self._looked < _EVERY:
            return False
        self._looked = now
        return any(began(pid) != begin for pid, begin in self._found)


@functools.cache
def launchers() -> Launchers:
    """Those of this process when this was first asked; none where a shell or another program started it."""
    found, pid = [], os.getppid()
    while pid > 1 and _is_launcher(pid):
        begin = began(pid)
        if begin is None:
            break
        found.append((pid, begin))
        pid = _parent(pid)
    return Launchers(found)


def _is_launcher(pid: int) -> bool:
    words: list[str] = []
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return any(Path(word).name in _PROGRAMS for word in words[:_WORDS] if word)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
