"""A calculation recorded as a graph of the device: replayed by one launch, instead of hundreds from Python.

What is recorded must not wait for the device, nor depend on anything that changes but the tensors it is given and those
it changes in place (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nid_dist.device import synchronise


def can_record(device: torch.device) -> bool:
    """Whether a device has graphs."""
    return device.type != "cpu" and hasattr(torch.get_device_module(device), "CUDAGraph")


class Recorder:
    """Runs and records on a stream of its own, as graphs have to be: one for all of a model's calculations."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._module = device, torch.get_device_module(device)
        if device.type == "cuda":
            torch.backends.cuda.preferred_linalg_library("cusolver")  # MAGMA's batched solvers wait for the device
        self._stream = self._module.Stream(device)
        self._pool: Any = None

    @contextmanager
    def stream(self) -> Iterator[None]:
        """What is launched inside runs on the recorder's stream, in order with what is before and after.

        So must the first calls of what is to be recorded: libraries make their workspaces then, and gradients remember
        their stream.
        """
        outside = self._module.current_stream(self._device)
        self._stream.wait_stream(outside)
        with self._module.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def record(
        self, call: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]], inputs: Mapping[str, Tensor]
    ) -> "Recording":
        """Record a call, without running it.

        All recordings share their memory but for what they are given: a replay overwrites the results of the others.

        Raises:
            RuntimeError: when the call does what a graph cannot hold.
        """
        held = {name: tensor.clone() for name, tensor in inputs.items()}
        graph = self._module.CUDAGraph()
        synchronise(self._device)
        # Threads that read signals ahead may pin memory meanwhile.
        with self._module.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
            outputs = call(held)
        self._pool = graph.pool()
        return Recording(graph, held, outputs)


class Recording:
    """A recorded call; its results stay until the next replay of any."""

    def __init__(self, graph: Any, inputs: dict[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        self._graph, self._inputs, self._outputs = graph, inputs, outputs

    def replay(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Run the call on other values, of the same shapes and types."""
        for name, own in self._inputs.items():
            own.copy_(inputs[name], non_blocking=True)
        self._graph.replay()
        return self._outputs
