"""Disks that are full or read-only: a file system in memory of the benchmark's own, where it may mount one."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_disk(path: Path, megabytes: int) -> Iterator[None]:
    """A small file system of its own at a folder, which is made; empty before and gone after.

    Raises:
        OSError: this process may not mount one.
    """
    path.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "nid_dist", str(path))
    try:
        yield
    finally:
        _unmount(path)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount file systems."""
    try:
        with own_disk(folder / "probe", 1):
            return True
    except OSError:
        return False


@contextmanager
def filled(folder: Path, room: int) -> Iterator[None]:
    """A file takes all the room there is on a folder's disk, except so many bytes."""
    filler = folder.parent / f".{folder.name}.filler" if not os.path.ismount(folder) else folder / ".lock.filler"
    with filler.open("wb") as file:
        free = shutil.disk_usage(folder).free - room
        file.write(bytes(max(0, free)))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be written to a folder, nor made in it, by whoever opens it from here on."""
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,ro,bind", str(folder))
        yield
    finally:
        _unmount(folder)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"mount: {done.stderr.strip()}")


def _unmount(path: Path) -> None:
    subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)
