"""How the process holds its memory between steps, and what to say when there is too little."""

import ctypes
import functools
import platform
import re

import torch

from nid_dist.errors import UserError

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)

# What PyTorch, CUDA's libraries and NCCL say of a GPU that is full; a process may also have it for itself.
_FULL_GPU = re.compile(r"out of memory|ALLOC_FAILED|busy or unavailable", re.IGNORECASE)
_UNCOUNTABLE = re.compile(r"integer multiplication overflow|Overflow when unpacking|size calculation overflowed")
_FULL = re.compile(r"not enough memory|can't allocate memory|bad_alloc")  # PyTorch on the CPU
_LOWER = "training.batch, training.coordinates, dictionary.chunk_mb, dictionary.experts or the size of the signals"


_SHARE = 1 / 16  # of the free memory for the pieces of one calculation, of which a few may be alive at once
_FOR_DATA = 1 / 8  # of the free memory for training signals
_UNKNOWN = 2**33  # bytes that are free on a device that does not say


def out_of_memory(error: BaseException) -> UserError | None:
    """What to tell a user of an error that means too little memory; None: it means something else."""
    text = str(error)
    if isinstance(error, RuntimeError | TypeError) and _UNCOUNTABLE.search(text):
        return UserError(
            "the configuration",
            found=f"a size that is beyond counting ({text.splitlines()[0]})",
            expected="room for this configuration",
            hint=f"lower {_LOWER}",
        )
    if isinstance(error, UserError) or not isinstance(error, MemoryError | RuntimeError):
        return None
    if _FULL_GPU.search(text):
        return _full_gpu(text)
    if not isinstance(error, MemoryError) and not _FULL.search(text):
        return None
    return UserError(
        "memory",
        found=f"too little of it ({text.splitlines()[0] if text else 'MemoryError'})",
        expected="room for this configuration",
        hint=f"lower {_LOWER}",
    )


def _full_gpu(text: str) -> UserError:
    """From "Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.50 GiB is free. ..."."""
    asked = re.search(r"Tried to allocate ([\d.]+ \w+)", text)
    gpu = re.search(r"GPU (\d+) has a total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free", text)
    others = re.findall(r"Process \d+ has ([\d.]+ \w+) memory in use", text)
    # Other libraries say no more than that they got none.
    found = next(line for line in text.splitlines() if _FULL_GPU.search(line)).strip()
    if asked and gpu:
        found = f"{asked[1]} asked for, {gpu[3]} of {gpu[2]} free"
        found += f", {' and '.join(others)} held by other processes" if others else ""
    return UserError(
        f"memory of GPU {gpu[1]}" if gpu else "memory of the GPU",
        found=found,
        expected="room for this configuration",
        hint=f"lower {_LOWER}, see with nvidia-smi what else uses the GPU, or choose another device",
    )


def floats_at_once(device: torch.device, on_cpu: int) -> int:
    """How many floats of intermediate results to work on at a time.

    A CPU's caches decide on the CPU, and the caller knows how: `on_cpu`. On a GPU, which wants few large pieces, it is
    a share of the memory that was free when it was first asked.
    """
    return on_cpu if device.type in ("cpu", "meta") else max(on_cpu, _share_of_free_memory(device))


@functools.cache
def _share_of_free_memory(device: torch.device) -> int:
    return int(_free(device) * _SHARE) // 4


@functools.cache
def room_for_data(device: torch.device) -> int:
    """Bytes of a device other than the CPU that training signals may take: a share of what was free when first asked.

    What a training allocates after them, gradients and moments, needs the most of it.
    """
    return int(_free(device) * _FOR_DATA)


def _free(device: torch.device) -> int:
    module = torch.get_device_module(device)
    free: int = module.mem_get_info(device)[0] if hasattr(module, "mem_get_info") else _UNKNOWN
    return free


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next step instead of handing it back to the kernel (glibc).

    A step allocates the gradient of all experts, hundreds of MB for large n, and frees it. By default glibc maps such
    blocks anew each time, and the kernel zeroes every page again: measured, that is two thirds of the merge's backward
    pass. The process then holds its peak memory until it ends.
    """
    if platform.system() != "Linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_MMAP_MAX, 0)


def release_freed_memory() -> None:
    """Hand freed memory back to the kernel now (glibc), so that what is used next can be seen."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
