"""What something takes: its time, and the memory that it needs at most."""

import gc
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from nid_dist.device import Stopwatch, synchronise
from nid_dist.memory import release_freed_memory

Found = TypeVar("Found")
_CPU = torch.device("cpu")


def timed(run: Callable[[], Found], device: torch.device = _CPU) -> tuple[Found, float]:
    """What something gives, and the seconds that it takes until the device has done it."""
    watch = Stopwatch(device)
    found = run()
    return found, watch.seconds()


def peak_bytes(run: Callable[[], object], device: torch.device = _CPU) -> float:
    """How far the memory in use rises above its level before, while `run` runs; what it keeps alive counts.

    Returns:
        Bytes: of a GPU those of its allocator, otherwise the process's resident memory, from the kernel's high-water
        mark (Linux), which is set back before; not a number where the system does not let it be set back.
    """
    gc.collect()
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        run()
        return float(torch.cuda.max_memory_allocated(device) - allocated)
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
