"""The tensors of a checkpoint in safetensors files, one of each rank, that any other number of ranks can read.

Every rank writes and reads by itself: who writes what follows from the names and shapes, which all ranks know. So
`torch.distributed.checkpoint` plans for one process at a time, and sends no pickles between the ranks. It reads the
files; to write them it would hold all tensors a second time.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nid_dist.checkpoints.writing import write_tensors
from nid_dist.parallel.world import World


def shard_name(rank: int) -> str:
    """The file that a rank writes, if it has anything to write, as torch.distributed.checkpoint would call it."""
    return f"shard-{rank + 1:05d}-model-00001-of-00001.safetensors"


def write_shard(folder: Path, tensors: Mapping[str, Tensor], world: World) -> int:
    """Writes this rank's share of the tensors, which are in the same order on all ranks.

    DTensors are as `World.as_shard` makes them, others replicated.

    Returns:
        The bytes of this rank's file; 0: it has nothing to write, and there is no file.
    """
    parts: dict[str, Tensor] = {}
    offsets: dict[str, list[int]] = {}
    tensor: Any
    for name, tensor in _share(tensors, world).items():
        if hasattr(tensor, "to_local"):
            parts[name], (chunk,) = tensor.to_local(), tensor.__create_chunk_list__()
            offsets[name] = list(chunk.offsets)
        else:
            parts[name], offsets[name] = tensor, [0] * tensor.dim()
    if not parts:
        return 0
    # Where each part belongs, as torch.distributed.checkpoint writes it.
    places = {name: {"saved_offsets": offset} for name, offset in offsets.items()}
    metadata = {"DCP_SHARDING_INFO": json.dumps(places), "DCP_VERSION": "1.0"}
    return write_tensors(folder / shard_name(world.rank), parts, metadata)


def read_shards(path: Path, into: Mapping[str, Tensor]) -> None:
    """Reads what this rank holds of the tensors, in place, from the shards of all ranks that wrote them.

    The checkpoint is complete and fits; DTensors take their own part only.
    """
    from torch.distributed import checkpoint as dcp  # a second of import that only this needs
    from torch.distributed.checkpoint import CheckpointException

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            # Without a process group.
            dcp.load(dict(into), storage_reader=dcp.HuggingFaceStorageReader(path=str(path)), no_dist=True)
        except CheckpointException as error:
            raise next(iter(error.failures.values()))[0] from error


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
