"""Timing side by side, and peak memory, on a machine that may be busy."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from nid_dist.memory import release_freed_memory


def alternate(variants: Mapping[str, Callable[[], object]], repeats: int = 7, warm_up: int = 1) -> dict[str, float]:
    """Median seconds of each variant, run in turns so that what else the machine does hits all alike.

    Args:
        variants: what to run, by name.
        repeats: timed runs of each.
        warm_up: untimed runs of each, first.

    Returns:
        Seconds by name.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(warm_up + repeats):
        for name, run in variants.items():
            begin = time.perf_counter()
            run()
            if turn >= warm_up:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_bytes(run: Callable[[], object]) -> float:
    """How far the process's resident memory rises above its level before, while `run` runs.

    Args:
        run: what to measure; what it keeps alive counts.

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
