"""The folder of a run's checkpoints: which there are, and how one is begun, takes its place, and goes."""

import os
import re
import shutil
import time
from pathlib import Path

from nid_dist.checkpoints.integrity import FACTS, check_files, read_document
from nid_dist.errors import UserError

# A hidden name ends in its writer: a process id on a host. Another host's processes cannot be looked up.
_NAME = re.compile(r"step-(\d{8,})|\.step-(\d{8,})\.old-\d+(?:@.+)?")
_HIDDEN = re.compile(r"\.(step-\d{8,})\.(tmp|old|gone)-(\d+)(?:@(.+))?")
_FORGOTTEN = 24 * 3600.0  # seconds without any change after which another host's writer is taken for dead


def begin(final: Path) -> Path:
    """Makes the temporary folder in which a checkpoint `final` is written, and clears up after writers that died."""
    final.parent.mkdir(parents=True, exist_ok=True)
    _sweep(final.parent)
    temporary = _hidden(final, "tmp")
    temporary.mkdir()
    return temporary


def put_in_place(temporary: Path, final: Path) -> None:
    """Gives a written checkpoint, from `begin`, its name in one rename; one of the same name is replaced."""
    sync(temporary)
    if final.exists():
        replaced = _hidden(final, "old")
        os.rename(final, replaced)
        try:
            os.rename(temporary, final)
        except BaseException:
            os.rename(replaced, final)
            raise
        sync(final.parent)
        _discard(replaced)
    else:
        os.rename(temporary, final)
        sync(final.parent)


def prune(folder: Path, step: int, keep: int) -> None:
    """Removes the oldest complete checkpoints but at least one; those later than `step` neither count nor go."""
    older = [path for path in candidates(folder) if _step(path) <= step and is_complete(path)]
    for path in older[max(keep, 1) :]:
        _discard(path)


def candidates(folder: Path) -> list[Path]:
    """Folders that claim to be checkpoints, newest first; one that was being replaced comes after its replacement."""
    if not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (_step(path), not path.name.startswith(".")), reverse=True)


def is_one(source: Path) -> bool:
    """Whether this is itself a checkpoint, be it damaged, not a folder of them."""
    return _NAME.fullmatch(source.name) is not None or (source / FACTS).exists()


def is_complete(path: Path) -> bool:
    """Whether all files of a checkpoint are there, by their sizes alone."""
    try:
        check_files(path, read_document(path)["files"], checksums=False)
    except UserError:
        return False
    return True


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1] or match[2])


def _hidden(path: Path, kind: str) -> Path:
    return path.with_name(f".step-{_step(path):08d}.{kind}-{os.getpid()}@{os.uname().nodename}")


def _discard(path: Path) -> None:
    """Removes a checkpoint under a name that nothing reads, so that half of it is never taken for a damaged one."""
    gone = _hidden(path, "gone")
    shutil.rmtree(gone, ignore_errors=True)
    try:
        os.rename(path, gone)
    except OSError:
        return  # an old checkpoint that cannot be removed is no reason to stop a training
    shutil.rmtree(gone, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Clears up after processes that died while saving; what was being replaced goes back if nothing took its place."""
    for path in folder.iterdir():
        match = _HIDDEN.fullmatch(path.name)
        if match is None or _is_in_use(path, int(match[3]), match[4]):
            continue
        if match[2] == "old" and not (folder / match[1]).exists():
            os.rename(path, folder / match[1])
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_in_use(path: Path, pid: int, host: str | None) -> bool:
    if host in (None, os.uname().nodename):
        return pid != os.getpid() and _is_alive(pid)
    try:
        # Renaming changes this time, too, unlike that of the last modification.
        changed = max(entry.stat().st_ctime for entry in (path, *path.rglob("*")))
    except OSError:
        return True  # it is just being changed
    return time.time() - changed < _FORGOTTEN


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
