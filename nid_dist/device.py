"""Which device a process computes on, and why; waiting for it, and timing what it does."""

import os
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from nid_dist.errors import UserError

AUTO_VARIABLE = "NID_DIST_DEVICE"
"""The environment variable that says what `auto` means, on a machine whose GPUs are not for everyone."""


@dataclass(frozen=True)
class DeviceChoice:
    """A device, and in words why it is this one."""

    device: torch.device
    reason: str

    def __str__(self) -> str:
        return f"device: {self.device} ({self.reason})"


def resolve_device(name: str | torch.device, local_rank: int = 0, local_size: int = 1) -> torch.device:
    """The device of this process on this machine; the arguments and errors are those of `choose_device`."""
    return choose_device(name, local_rank, local_size).device


def choose_device(name: str | torch.device, local_rank: int = 0, local_size: int = 1) -> DeviceChoice:
    """Choose the device of this process on this machine, with an index unless it is the CPU, and say why.

    Args:
        name: `auto` (the GPU where there is one), `cpu`, `cuda` (a GPU, or an error), `cuda:N`, or a device of another
            backend that has been registered with PyTorch.
        local_rank: of this process among those of the job on this machine.
        local_size: how many these are.

    Raises:
        UserError: for a device that is not there, or fewer GPUs than processes.
    """
    asked, name = str(name), _meaning(name)
    other = _other_backend(name)
    if other is not None:
        return DeviceChoice(other, "asked for")
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    choice = decide_device(name, visible, local_rank, local_size, cuda_build=torch.backends.cuda.is_built())
    reason = choice.reason if name == asked else f"{AUTO_VARIABLE}={name}"
    if choice.device.type == "cuda":
        reason = f"{torch.cuda.get_device_name(choice.device)}, {reason}"
    return DeviceChoice(choice.device, reason)


def use_device(name: str) -> DeviceChoice:
    """Say what `auto` means from here on, in this process and in those that it starts.

    Returns:
        The device that a single process takes, and the reason.

    Raises:
        UserError: as for `choose_device`.
    """
    choice = choose_device(name)
    if name != "auto":
        os.environ[AUTO_VARIABLE] = name
    return choice


def decide_device(
    name: str, visible: int, local_rank: int = 0, local_size: int = 1, *, cuda_build: bool = True
) -> DeviceChoice:
    """The decision itself, by nothing but the arguments of `choose_device` and the GPUs that PyTorch sees.

    A launcher may show each of its processes one GPU of its own, which is number 0 in each; that no two have the same
    is seen when they meet (`nid_dist.parallel.launch.rendezvous`). `cuda_build` is whether PyTorch is built for GPUs.

    Raises:
        UserError: as for `choose_device`.
    """
    if name == "cpu":
        return DeviceChoice(torch.device("cpu"), "asked for")
    if name == "auto" and not visible:
        return DeviceChoice(torch.device("cpu"), "no GPU here" if cuda_build else "PyTorch is built for CPUs only")
    index = _cuda_index(name)
    if not cuda_build:
        _refuse(name, f"with a PyTorch built for CPUs ({torch.__version__})", "install a build for CUDA, or choose cpu")
    if not visible:
        hint = "see nvidia-smi, the driver and CUDA_VISIBLE_DEVICES, or choose cpu"
        _refuse(name, "where PyTorch finds no GPU", hint)
    if index is None:
        return _own_gpu(visible, local_rank, local_size)
    if index >= visible:
        _refuse(name, f"with {_gpus(visible)} here", f"choose a number below {visible}, or auto")
    if local_size > 1 and visible > 1:
        _refuse(name, f"with {local_size} processes here", "choose auto, which gives each a GPU, or start one process")
    return DeviceChoice(torch.device("cuda", index), f"asked for, of {_gpus(visible)} here")


def _other_backend(name: str) -> torch.device | None:
    """A device of the backend that something outside of PyTorch has registered with it, if it is one."""
    kind, _, number = name.partition(":")
    if kind != torch._C._get_privateuse1_backend_name() or not hasattr(torch, kind):
        return None
    return torch.device(kind, int(number) if number.isdecimal() else 0)


def _own_gpu(visible: int, local_rank: int, local_size: int) -> DeviceChoice:
    if local_size == 1:
        reason = "the only GPU here" if visible == 1 else f"the first of {visible} GPUs here"
        return DeviceChoice(torch.device("cuda", 0), reason)
    if visible == 1:
        return DeviceChoice(torch.device("cuda", 0), f"the only GPU that is shown to this process of {local_size} here")
    if local_size > visible:
        raise too_few_gpus(local_size, visible)
    return DeviceChoice(torch.device("cuda", local_rank), f"a GPU for each of the {local_size} processes here")


def too_few_gpus(processes: int, gpus: int) -> UserError:
    """The error of several processes of a machine that would share its GPUs."""
    return UserError(
        "the number of processes on this machine",
        found=f"{processes} with {_gpus(gpus)}",
        expected="a GPU for each",
        hint="start fewer processes, or set parallel.device=cpu",
    )


def processes_for(name: str, most: int) -> int:
    """How many processes of this machine can have a device each: 1 to `most`.

    Raises:
        UserError: as for `choose_device`.
    """
    device = resolve_device(name)
    if device.type == "cpu":
        return most
    return min(most, torch.cuda.device_count()) if _meaning(name) in ("auto", "cuda") else 1


def _meaning(name: str | torch.device) -> str:
    """What is asked for, once `auto` may mean something else."""
    return (os.environ.get(AUTO_VARIABLE) or "auto") if name == "auto" else str(name)


def _cuda_index(name: str) -> int | None:
    """N of `cuda:N`; None: any."""
    kind, _, number = name.partition(":")
    if name in ("auto", "cuda"):
        return None
    if kind == "cuda" and number.isdecimal():
        return int(number)
    raise UserError(
        "device", found=repr(name), expected="auto, cpu, cuda or cuda:N", hint="choose one of these (auto: the GPU)"
    )


def _refuse(name: str, found: str, hint: str) -> NoReturn:
    raise UserError("device", found=f"{name} {found}", expected="a device that is there", hint=hint)


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


def gpu_identity(device: torch.device) -> str:
    """A name of a GPU that no other has, whatever number a process knows it by; empty for other devices."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all it was asked to do; the CPU has."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, without waiting for it: what is sent to a GPU goes through pinned memory.

    To read a number back is to wait; what goes to the CPU is there when this returns.
    """
    if device.type == "cpu" or tensor.device == device:
        return tensor.to(device)
    pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    return pinned.to(device, non_blocking=True)


class Stopwatch:
    """Seconds since it was made, of work that is done: the device is waited for, then and at every reading."""

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = torch.device("cpu") if device is None else device
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        synchronise(self._device)
        self._begin = time.perf_counter()

    def seconds(self) -> float:
        """Since it was made or restarted."""
        synchronise(self._device)
        return time.perf_counter() - self._begin


class EventTimer:
    """Adds up the seconds between `start` and `stop`: a GPU's own, by events on its stream, without waiting for it."""

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = torch.device("cpu") if device is None else device
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self._seconds = 0.0
        self._begin: Any = None
        self._unread: list[tuple[Any, Any]] = []

    def start(self) -> None:
        """Count from here, where the device's stream is when it comes to what is asked of it next."""
        self._begin = self._now()

    def stop(self) -> None:
        """Count up to here."""
        begin, end = self._begin, self._now()
        if self._device.type == "cpu":
            self._seconds += end - begin
        else:
            self._unread.append((begin, end))

    def seconds(self) -> float:
        """The sum; the device is waited for, once, where something was measured on it since the last reading."""
        if self._unread:
            self._unread[-1][1].synchronize()
            self._seconds += sum(begin.elapsed_time(end) for begin, end in self._unread) / 1e3
            self._unread.clear()
        return self._seconds

    def _now(self) -> Any:
        if self._device.type == "cpu":
            return time.perf_counter()
        event = torch.get_device_module(self._device).Event(enable_timing=True)
        event.record()
        return event
