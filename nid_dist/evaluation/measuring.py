"""What something takes: its time, and the memory that it needs at most."""

import gc
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nid_dist.memory import release_freed_memory

Found = TypeVar("Found")


def timed(run: Callable[[], Found]) -> tuple[Found, float]:
    """What something gives, and the seconds that it takes."""
    begin = time.perf_counter()
    found = run()
    return found, time.perf_counter() - begin


def peak_bytes(run: Callable[[], object]) -> float:
    """How far the process's resident memory rises above its level before, while `run` runs; what it keeps alive counts.

    Returns:
        Bytes, from the kernel's high-water mark (Linux), which is set back before; not a number where the system does
        not let it be set back.
    """
    gc.collect()
    release_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return math.nan
    before = _status("VmRSS")
    run()
    return float(max(0, _status("VmHWM") - before))


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
