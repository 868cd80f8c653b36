"""The tensors of a checkpoint in safetensors files, one of each rank, that any other number of ranks can read.

Every rank writes and reads by itself: who writes what follows from the names and shapes, which all ranks know. So
`torch.distributed.checkpoint` plans for one process at a time, and sends no pickles between the ranks.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from nid_dist.parallel.world import World

_OWN = "shard-00001-model-00001-of-00001.safetensors"  # as torch.distributed.checkpoint names that of one process


def shard_name(rank: int) -> str:
    """The file that a rank writes, if it has anything to write."""
    return _OWN.replace("00001", f"{rank + 1:05d}", 1)


def write_shard(folder: Path, tensors: Mapping[str, Tensor], world: World) -> int:
    """Writes this rank's share of the tensors, which are in the same order on all ranks.

    DTensors are as `World.as_shard` makes them, others replicated.

    Returns:
        The bytes of this rank's file; 0: it has nothing to write, and there is no file.
    """
    from torch.distributed import checkpoint as dcp  # a second of import that only this needs

    own = folder / f"rank-{world.rank}"
    own.mkdir()
    writer = dcp.HuggingFaceStorageWriter(path=str(own), save_distributed=True)
    _one_process(dcp.save, _storable(_share(tensors, world)), storage_writer=writer)
    written = sorted(path.name for path in own.iterdir())
    if written not in ([], [_OWN]):
        raise RuntimeError(f"torch.distributed.checkpoint wrote {written}, which may be pickles")
    shard = folder / shard_name(world.rank)
    for name in written:
        os.rename(own / name, shard)
    own.rmdir()
    return shard.stat().st_size if written else 0


def read_shards(path: Path, into: Mapping[str, Tensor]) -> None:
    """Reads what this rank holds of the tensors, in place, from the shards of all ranks that wrote them.

    The checkpoint is complete and fits; DTensors take their own part only.
    """
    from torch.distributed import checkpoint as dcp

    _one_process(dcp.load, dict(into), storage_reader=dcp.HuggingFaceStorageReader(path=str(path)))


def _share(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """What this rank writes: every part of every tensor is written once, by the holder with the least to write."""
    planned, mine = [0] * world.size, {}
    for name, tensor in tensors.items():
        # Part p of an expert tensor is held by the ranks p, p + R, p + 2R, ...
        parts = world.topology.expert_parallel_size if hasattr(tensor, "to_local") else 1
        for part in range(parts):
            writer = min(range(part, world.size, parts), key=planned.__getitem__)
            planned[writer] += tensor.numel() * tensor.element_size() // parts
            if writer == world.rank:
                mine[name] = tensor
    return mine


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Safetensors takes neither strided views nor two names for one memory; a DTensor's part is under one name."""
    storable, seen = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        if not hasattr(tensor, "to_local"):
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
