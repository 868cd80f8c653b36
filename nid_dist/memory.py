"""How the process holds its memory between steps."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)


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
