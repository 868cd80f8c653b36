"""Checkpoints: tensors in safetensors shards, everything else in JSON; a checkpoint is complete or not there."""

import contextlib
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nid_dist.checkpoints.folder import begin, candidates, is_complete, is_one, prune, put_in_place, sync
from nid_dist.checkpoints.integrity import DamagedCheckpoint, check_files, check_tensors, read_document, write_document
from nid_dist.checkpoints.storage import read_shards, shard_name, write_shard
from nid_dist.errors import UserError
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[Any, Any] | None  # keys become text

_PATIENCE = 20.0  # seconds until a file that one node wrote must be seen by another


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, JSON],
    keep: int,
    *,
    world: World | None = None,
) -> Path:
    """Writes a checkpoint, puts it in place in one rename, then removes the oldest beyond `keep`.

    Args:
        folder: holds the checkpoints of one run; made when missing; on a file system that all ranks share.
        step: optimiser steps done so far; names the checkpoint.
        tensors: by name, of any shape and dtype, in the same order on all ranks. An expert tensor of several ranks is
            what `World.as_shard` makes of it; any other is equal on all ranks.
        facts: everything else that a later run needs, as JSON values; the first rank's count.
        keep: complete checkpoints up to this step that stay, the new one included.
        world: all the processes, each of which calls this; None: this one alone.

    Raises:
        UserError: on all ranks, when the disk is full, not writable, or not shared; earlier checkpoints are untouched.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is {type(tensor).__name__}, not a tensor: it would be pickled; put it in `facts`")
    world = world or _alone()
    final = folder / f"step-{step:08d}"

    translate_os_errors = _as_user_error(final, tensors)
    temporary = folder / world.on_rank_zero(translate_os_errors(lambda: begin(final).name))

    @translate_os_errors
    def write() -> int:
        _await(temporary.is_dir, folder)
        return write_shard(temporary, tensors, world)

    @translate_os_errors
    def complete() -> None:
        shards = {shard_name(rank): size for rank, size in enumerate(sizes.tolist()) if size}
        _await(lambda: {file.name: file.stat().st_size for file in temporary.iterdir()} == shards, folder)
        topology = world.topology
        placement = {"world_size": topology.world_size, "expert_parallel_size": topology.expert_parallel_size}
        sync(write_document(temporary, step, tensors, facts, placement))
        put_in_place(temporary, final)
        prune(folder, step, keep)

    try:
        sizes = world.all_gather(torch.tensor(world.raise_on_all_ranks(write)))
        world.on_rank_zero(complete)
    finally:
        if world.first:
            shutil.rmtree(temporary, ignore_errors=True)
    return final


def load(
    path: Path, into: Mapping[str, Tensor], *, partial: bool = False, world: World | None = None
) -> dict[str, Any]:
    """Reads a checkpoint into the given tensors, in place, after all of it has been checked.

    Args:
        path: the folder of one checkpoint, written by any number of ranks.
        into: the tensors to overwrite, by the names under which they were saved, of the kinds that `save` takes.
        partial: whether the checkpoint may hold tensors that are not asked for.
        world: all the processes, each of which calls this; None: this one alone.

    Returns:
        The facts given to `save`, and `step`.

    Raises:
        DamagedCheckpoint: it is incomplete, or a checksum differs.
        UserError: it is missing, of another format, or has other tensors than `into`. Nothing has been overwritten,
            and the error is raised on all ranks.
    """
    world = world or _alone()
    answer = world.on_rank_zero(lambda: _examine(path))
    if "damage" in answer:
        raise DamagedCheckpoint(**answer["damage"])
    document = answer["document"]

    def fit() -> None:
        try:
            check_files(path, document["files"], checksums=False)
        except DamagedCheckpoint:  # the first rank saw it whole
            raise _not_shared(path) from None
        check_tensors(path, document["tensors"], into, partial)

    world.raise_on_all_ranks(fit)
    if into:
        world.raise_on_all_ranks(lambda: read_shards(path, into))
    return {**document["facts"], "step": document["step"]}


def read_facts(path: Path) -> dict[str, Any]:
    """Reads what a checkpoint holds besides tensors, for example to build the model that `load` then fills.

    Returns:
        The facts given to `save`, and `step`.

    Raises:
        DamagedCheckpoint: the facts are missing or damaged; the tensors are not looked at.
        UserError: it is missing or of another format.
    """
    document = read_document(path)
    return {**document["facts"], "step": document["step"]}


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a folder, which may be missing, or None; the tensors are not read for that."""
    return next((path for path in candidates(folder) if is_complete(path)), None)


def has_checkpoint(source: Path) -> bool:
    """Whether there is anything for `load_newest` to try, be it damaged."""
    return source.is_dir() and (is_one(source) or bool(candidates(source)))


def load_newest(
    source: Path,
    into: Mapping[str, Tensor],
    *,
    partial: bool = False,
    warn: Callable[[str], object] = warnings.warn,
    world: World | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Reads the newest checkpoint that is good: the folder of the checkpoint and its facts, as from `load`.

    Args:
        source: a folder of checkpoints, or one checkpoint: then only that one.
        warn: called with one line for each damaged checkpoint that was passed over, on the first rank.

    Raises:
        UserError: there is no checkpoint, none is good, or the good one does not fit `into`; on all ranks.
    """
    world = world or _alone()
    if world.on_rank_zero(lambda: is_one(source) or not source.is_dir()):
        return source, load(source, into, partial=partial, world=world)
    damaged: list[str] = []
    for name in world.on_rank_zero(lambda: [path.name for path in candidates(source)]):
        try:
            return source / name, load(source / name, into, partial=partial, world=world)
        except DamagedCheckpoint as error:
            damaged.append(name)
            if world.first:
                warn(f"{error} (this checkpoint is passed over)")
    raise UserError(
        str(source),
        found=f"only damaged checkpoints ({', '.join(damaged)})" if damaged else "no checkpoint",
        expected="a folder step-... written by training",
        hint="restore one from a copy, or start a new run",
    )


def _alone() -> World:
    return World(Topology(experts=1))


@contextlib.contextmanager
def _as_user_error(final: Path, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """What the disk refuses is for the user to hint."""
    try:
        yield
    except OSError as error:
        megabytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) / 1e6
        raise UserError(
            str(final),
            found=f"that writing failed ({error.strerror or error})",
            expected=f"a writable folder with {megabytes:.0f} MB of room",
            hint="free some space or choose another logging.run_dir; earlier checkpoints are untouched",
        ) from error


def _examine(path: Path) -> dict[str, Any]:
    """A checkpoint's document, or what is damaged, as JSON that all ranks can be translate_os_errors."""
    try:
        document = read_document(path)
        check_files(path, document["files"], checksums=True)
    except DamagedCheckpoint as error:
        return {"damage": vars(error)}
    return {"document": document}


def _await(seen: Callable[[], bool], folder: Path) -> None:
    """Waits for what another rank has done to be seen here, which file systems of several nodes may delay."""
    end = time.monotonic() + _PATIENCE
    while not seen():
        if time.monotonic() > end:
            raise _not_shared(folder)
        time.sleep(0.1)


def _not_shared(folder: Path) -> UserError:
    return UserError(
        str(folder),
        found="a folder that is not shared by all nodes",
        expected="one in which every rank sees the files of all",
        hint="choose a logging.run_dir on a file system that all nodes have mounted",
    )
