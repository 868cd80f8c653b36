"""Checkpoints: tensors in safetensors shards, everything else in JSON; a checkpoint is complete or not there."""

import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nid_dist.errors import UserError
from nid_dist.training.checkpoint_integrity import (
    FACTS,
    DamagedCheckpoint,
    check_files,
    check_tensors,
    read_document,
    write_document,
)

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[Any, Any] | None  # keys become text

_NAME = re.compile(r"step-(\d{8,})|\.step-(\d{8,})\.old-\d+")
_HIDDEN = re.compile(r"\.(step-\d{8,})\.(tmp|old|gone)-(\d+)")


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, JSON], keep: int) -> Path:
    """Writes a checkpoint, puts it in place in one rename, then removes the oldest beyond `keep`.

    Args:
        folder: holds the checkpoints of one run; made when missing.
        step: optimiser steps done so far; names the checkpoint.
        tensors: by name, of any shape and dtype; DTensors are written as their shards.
        facts: everything else that a later run needs, as JSON values.
        keep: complete checkpoints up to this step that stay, the new one included.

    Returns:
        The folder of the new checkpoint.

    Raises:
        UserError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / f".{final.name}.tmp-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        _write(temporary, step, tensors, facts)
        _put_in_place(temporary, final)
    except OSError as error:
        megabytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) / 1e6
        raise UserError(
            str(final),
            found=f"that writing failed ({error.strerror or error})",
            expected=f"a writable folder with {megabytes:.0f} MB of room",
            mend="free some space or choose another logging.run_dir; earlier checkpoints are untouched",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    older = [path for path in _candidates(folder) if _step(path) <= step and _is_complete(path)]
    for path in older[max(keep, 1) :]:
        _discard(path)
    return final


def load(path: Path, into: Mapping[str, Tensor], *, partial: bool = False) -> dict[str, Any]:
    """Reads a checkpoint into the given tensors, in place, after all of it has been checked.

    Args:
        path: the folder of one checkpoint.
        into: the tensors to overwrite, by the names under which they were saved.
        partial: whether the checkpoint may hold tensors that are not asked for.

    Returns:
        The facts given to `save`, and `step`.

    Raises:
        DamagedCheckpoint: it is incomplete, or a checksum differs.
        UserError: it is missing, of another format, or has other tensors than `into`. Nothing has been overwritten.
    """
    document = read_document(path)
    check_files(path, document["files"], checksums=True)
    check_tensors(path, document["tensors"], into, partial)
    if into:
        from torch.distributed import checkpoint as dcp  # a second of import that only this needs

        _one_process(dcp.load, dict(into), storage_reader=dcp.HuggingFaceStorageReader(path=str(path)))
    return {**document["facts"], "step": document["step"]}


def read_facts(path: Path) -> dict[str, Any]:
    """Reads what a checkpoint holds besides tensors, for example to build the model that `load` then fills.

    Args:
        path: the folder of one checkpoint.

    Returns:
        The facts given to `save`, and `step`.

    Raises:
        DamagedCheckpoint: the facts are missing or damaged; the tensors are not looked at.
        UserError: it is missing or of another format.
    """
    document = read_document(path)
    return {**document["facts"], "step": document["step"]}


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a folder; completeness is judged without reading the tensors.

    Args:
        folder: holds the checkpoints of one run; may be missing.

    Returns:
        The folder of the checkpoint, or None.
    """
    return next((path for path in _candidates(folder) if _is_complete(path)), None)


def has_checkpoint(source: Path) -> bool:
    """Whether there is anything for `load_newest` to try, be it damaged.

    Args:
        source: a folder of checkpoints, or one checkpoint.

    Returns:
        True when it is a checkpoint or holds one.
    """
    return source.is_dir() and (_is_one(source) or bool(_candidates(source)))


def load_newest(
    source: Path, into: Mapping[str, Tensor], *, partial: bool = False, warn: Callable[[str], object] = warnings.warn
) -> tuple[Path, dict[str, Any]]:
    """Reads the newest checkpoint that is good.

    Args:
        source: a folder of checkpoints, or one checkpoint: then only that one.
        into: the tensors to overwrite, as in `load`.
        partial: as in `load`.
        warn: called with one line for each damaged checkpoint that was passed over.

    Returns:
        The folder of the checkpoint and its facts, as from `load`.

    Raises:
        UserError: there is no checkpoint, none is good, or the good one does not fit `into`.
    """
    if _is_one(source) or not source.is_dir():
        return source, load(source, into, partial=partial)
    damaged: list[str] = []
    for path in _candidates(source):
        try:
            return path, load(path, into, partial=partial)
        except DamagedCheckpoint as error:
            damaged.append(path.name)
            warn(f"{error} (this checkpoint is passed over)")
    raise UserError(
        str(source),
        found=f"only damaged checkpoints ({', '.join(damaged)})" if damaged else "no checkpoint",
        expected="a folder step-... written by training",
        mend="restore one from a copy, or start a new run",
    )


def _candidates(folder: Path) -> list[Path]:
    """Folders that claim to be checkpoints, newest first; one that was being replaced comes after its replacement."""
    if not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (_step(path), not path.name.startswith(".")), reverse=True)


def _is_one(source: Path) -> bool:
    return _NAME.fullmatch(source.name) is not None or (source / FACTS).exists()


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1] or match[2])


def _write(temporary: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, JSON]) -> None:
    from torch.distributed import checkpoint as dcp

    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is {type(tensor).__name__}, not a tensor: it would be pickled; put it in `facts`")
    temporary.mkdir()
    writer = dcp.HuggingFaceStorageWriter(path=str(temporary), save_distributed=True)
    _one_process(dcp.save, _storable(tensors), storage_writer=writer)
    foreign = sorted(path.name for path in temporary.iterdir() if path.suffix != ".safetensors")
    if foreign:
        raise RuntimeError(f"torch.distributed.checkpoint wrote {foreign}, which may be pickles")
    _sync(write_document(temporary, step, tensors, facts))
    _sync(temporary)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Safetensors takes neither strided views nor two names for one memory; subclasses (DTensor) pass unchanged."""
    storable, seen = {}, set()
    for name, tensor in tensors.items():
        if type(tensor) in (Tensor, torch.nn.Parameter):
            tensor = tensor.detach().contiguous()
            memory = tensor.untyped_storage().data_ptr()
            tensor = tensor.clone() if memory in seen else tensor
            seen.add(memory)
        storable[name] = tensor
    return storable


def _one_process(call: Callable[..., object], *args: object, **kwargs: object) -> None:
    """Calls a function of torch.distributed.checkpoint without a process group, and raises what really happened."""
    from torch.distributed.checkpoint import CheckpointException

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            call(*args, no_dist=True, **kwargs)
        except CheckpointException as error:
            raise next(iter(error.failures.values()))[0] from error


def _put_in_place(temporary: Path, final: Path) -> None:
    if final.exists():
        replaced = final.with_name(f".{final.name}.old-{os.getpid()}")
        os.rename(final, replaced)
        try:
            os.rename(temporary, final)
        except BaseException:
            os.rename(replaced, final)
            raise
        _sync(final.parent)
        _discard(replaced)
    else:
        os.rename(temporary, final)
        _sync(final.parent)


def _discard(path: Path) -> None:
    """Removes a checkpoint under a name that nothing reads, so that half of it is never taken for a damaged one."""
    gone = path.with_name(f".step-{_step(path):08d}.gone-{os.getpid()}")
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
        if match is None or (int(match[3]) != os.getpid() and _is_alive(int(match[3]))):
            continue
        if match[2] == "old" and not (folder / match[1]).exists():
            os.rename(path, folder / match[1])
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_complete(path: Path) -> bool:
    try:
        check_files(path, read_document(path)["files"], checksums=False)
    except UserError:
        return False
    return True
