"""Times on a device, and boxes of time that measurements have to fit in."""

import statistics
import sys
import time
from collections.abc import Callable

import torch

from nid_dist.device import Stopwatch, synchronise


class TimeBox:
    """Some seconds from now on, and what was left out for want of them."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.skipped: list[str] = []

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    def part(self, share: float) -> "TimeBox":
        """A share of what is left, whose omissions are this one's too."""
        inner = TimeBox(share * self.left)
        inner.skipped = self.skipped
        return inner

    def admits(self, what: str, seconds: float = 0.0) -> bool:
        """Whether there is time for something that is expected to take so long; said in a line where there is not."""
        if self.left > seconds:
            return True
        self.skip(what, f"{seconds:.0f} s, with {max(0.0, self.left):.0f} left")
        return False

    def skip(self, what: str, why: str) -> None:
        """Say what is left out."""
        self.skipped.append(what)
        print(f"skipped {what}: {why}", file=sys.stderr, flush=True)


def median_seconds(
    run: Callable[[], object], device: torch.device, repeats: int = 20, warm_up: int = 3, limit: float = 2.0
) -> float:
    """Median time of a call, by the device's own clock where it has one.

    Args:
        repeats: that count, at most: as many as fit in `limit` seconds, and one.
        warm_up: calls before.
    """
    for _ in range(warm_up):
        run()
    synchronise(device)
    times: list[float] = []
    end = time.monotonic() + limit
    while not times or (len(times) < repeats and time.monotonic() < end):
        times.append(_seconds(run, device))
    return statistics.median(times)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        watch = Stopwatch(device)
        run()
        return watch.seconds()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return 1e-3 * float(begin.elapsed_time(end))
