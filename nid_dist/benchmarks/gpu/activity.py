"""What a device is asked to do, and how long it works: from PyTorch's profiler."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from nid_dist.device import synchronise

# Calls of CUDA's runtime and driver by their names: what starts kernels, copies and graphs, and what waits.
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


@dataclass(frozen=True)
class Activity:
    """In each call of what was observed."""

    busy: float  # seconds in which the device computes or copies
    launches: float  # kernels, copies and graphs that the host starts
    waits: float  # times that the host waits for the device


def observe(run: Callable[[], object], device: torch.device, calls: int) -> Activity:
    """What so many calls make a GPU do; of other devices nothing is seen."""
    kind = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
    with profile(activities=[kind]) as profiler:
        run()
        synchronise(device)
    return summed(profiler.events() or [], calls)


def summed(events: Iterable[Any], calls: int) -> Activity:
    """The activity that the profiler's events show; what overlaps counts once."""
    events = list(events)
    names = [event.name for event in events if event.device_type == DeviceType.CPU]
    # Ranges that a program gives names to are shown on the device, too.
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    )
    busy, reached = 0.0, float("-inf")
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    launches, waits = (sum(name.startswith(kinds) for name in names) for kinds in (_LAUNCHES, _WAITS))
    return Activity(1e-6 * busy / calls, launches / calls, waits / calls)
