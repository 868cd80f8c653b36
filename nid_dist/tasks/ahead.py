"""What the next steps need, made by threads before they ask for it."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from nid_dist.parallel.world import World

_THREADS = 8  # at most, beside a GPU: it takes a few times less for a step than the CPU for what the step needs

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """Makes what this rank needs of micro-batches in the background, on the CPU: no thread touches a GPU.

    Beside a GPU several threads work on as many steps; on the CPU, where all cores compute, one on the next step.

    Args:
        make: a pure function of (step, micro, world).
        micros: micro-batches in a step.
        steps: of the training; no more are made ahead.
    """

    def __init__(self, make: Callable[[int, int, World], Made], micros: int, steps: int) -> None:
        self._make, self._micros, self._steps = make, micros, steps
        self._coming: dict[tuple[int, int, int], Future[Made]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._count = 0

    def take(self, step: int, micro: int, world: World) -> Made:
        """What a micro-batch needs, waited for if it is not there yet; made now if it was not asked for before.

        Raises:
            UserError: what making it raised.
        """
        coming = self._coming.pop((step, micro, world.rank), None)
        return self._make(step, micro, world) if coming is None else coming.result()

    def prefetch(self, step: int, world: World) -> None:
        """Start on a step, and on those after it as far as there are threads; what was for earlier ones is dropped."""
        if self._threads is None:
            self._count = threads_for(world.device)
            self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="read-ahead")
        for key in [key for key in self._coming if key[0] < step]:
            self._coming.pop(key).cancel()
        for each in range(step, max(step + 1, min(step + self._count, self._steps))):
            for micro in range(self._micros):
                key = (each, micro, world.rank)
                if key not in self._coming:
                    self._coming[key] = self._threads.submit(self._make, each, micro, world)


def threads_for(device: torch.device) -> int:
    """How many threads work for a process: its part of the machine's cores, one of which is the process's own."""
    if device.type == "cpu":
        return 1
    processes = max(1, torch.get_device_module(device).device_count())
    return max(1, min(_THREADS, len(os.sched_getaffinity(0)) // processes - 1))
