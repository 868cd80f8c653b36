"""Checkpoints of several ranks: read by any other number of them, an error of one is everyone's, nothing is pickled."""

import json
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nid_dist.checkpoints import checkpoint
from nid_dist.checkpoints.checkpoint import load, load_newest, save
from nid_dist.checkpoints.integrity import DamagedCheckpoint
from nid_dist.errors import UserError
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.world import World
from tests.parallel.processes import run

N = 8
FACTS = {"progress": {"step": 5}, "psnr": 31.5}


def whole(seed: int, experts: int = N) -> dict[str, Tensor]:
    """The oracle: every tensor of the run, of all experts."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, shape in {"experts.weight": (experts, 3, 5), "experts.bias": (experts,), "gate.weight": (70, 3)}.items():
        for kind in ("", ".exp_avg", ".exp_avg_sq"):
            tensors[name + kind] = torch.randn(shape, generator=generator)
        tensors[f"{name}.step"] = torch.randint(1, 99, (), generator=generator).float()
    tensors["experts.half"] = torch.randn(experts, 2, generator=generator).bfloat16()
    return tensors | {"rng": generator.get_state(), "seen": torch.tensor(2**53 + 1), "empty": torch.zeros(0, 3)}


def held(tensors: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """What a rank holds of them, in memory of its own."""
    topology = world.topology
    part = slice(topology.first_expert, topology.first_expert + topology.local_experts)
    return {
        name: world.as_shard(tensor[part].clone()) if is_sharded(name, tensor) else tensor.clone()
        for name, tensor in tensors.items()
    }


def is_sharded(name: str, tensor: Tensor) -> bool:
    return name.startswith("experts") and tensor.dim() > 0


def zeros(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def differing(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    local = [{n: t.to_local() if hasattr(t, "to_local") else t for n, t in x.items()} for x in (found, wanted)]
    return [name for name in wanted if not torch.equal(local[0][name], local[1][name])]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def no_pickles() -> Iterator[None]:
    """Neither in files nor between ranks."""
    refuse = mock.Mock(side_effect=AssertionError("pickle"))
    with (
        mock.patch("pickle.dump", refuse),
        mock.patch("pickle.dumps", refuse),
        mock.patch("pickle.load", refuse),
        mock.patch("pickle.loads", refuse),
        mock.patch("torch.save", refuse),
        mock.patch("torch.load", refuse),
        mock.patch("torch.distributed.distributed_c10d._object_to_tensor", refuse),
        mock.patch("torch.distributed.distributed_c10d._tensor_to_object", refuse),
    ):
        yield


def said_by(call: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


def four_ranks(rank: int, size: int, root: str) -> dict[str, list[str]]:
    folder = Path(root)
    worlds = {ranks: ProcessGroupWorld(Topology(N, size, rank, ranks)) for ranks in (4, 2, 1)}
    good = {ranks: held(whole(5), worlds[ranks]) for ranks in worlds}
    with no_pickles():
        for name, ranks in (("R4", 4), ("R2", 2), ("kept", 2)):
            save(folder / name, 5, good[ranks], FACTS, 2, world=worlds[ranks])
        for written in ("R4", "R2", "alone"):
            for ranks, world in worlds.items():
                into = zeros(good[ranks])
                path, facts = load_newest(folder / written, into, world=world)
                assert (path, facts) == (folder / written / "step-00000005", FACTS | {"step": 5})
                assert differing(into, good[ranks]) == [], (written, ranks)

    world, wanted = worlds[2], good[2]
    into, told, warned = zeros(wanted), [], []
    wrong = Topology(2 * N, size, rank, 2)
    with mock.patch.object(world, "topology", wrong):
        too_many = zeros(held(whole(5, 2 * N), world))
    told.append(said_by(lambda: load_newest(folder / "R2", too_many, world=world)))
    other = into | {"gate.weight": torch.zeros(70, 3, dtype=torch.float64)} if rank == 3 else into
    told.append(said_by(lambda: load(folder / "R2" / "step-00000005", other, world=world)))
    assert not any(tensor.any() for tensor in [*too_many.values(), *into.values(), *other.values()])

    # A disk that is full for rank 1 alone: the kernel refuses to write beyond the limit.
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, limit[1]))
    told.append(said_by(lambda: save(folder / "R2", 6, held(whole(6), world), FACTS, 1, world=world)))
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    with mock.patch.object(checkpoint, "_PATIENCE", 0.3):
        # Rank 1's file system is another one, for all of the run's folder or, later, for what it wrote.
        own = folder / ("R2" if rank != 1 else "elsewhere")
        told.append(said_by(lambda: save(own, 6, wanted, FACTS, 1, world=world)))
        told.append(said_by(lambda: load(own / "step-00000005", into, world=world)))
        lost = checkpoint.write_shard if rank != 1 else lambda *_: 1000
        with mock.patch.object(checkpoint, "write_shard", lost):
            told.append(said_by(lambda: save(folder / "R2", 6, wanted, FACTS, 1, world=world)))
    dist.barrier()
    assert names(folder / "R2") == ["step-00000005"]
    load(folder / "R2" / "step-00000005", into, world=world)
    assert differing(into, wanted) == []

    # All pass over a damaged one, also where the placement has changed; the first says so.
    path = save(folder / "R2", 7, held(whole(7), world), FACTS, 2, world=world)
    if rank == 0:
        shard = path / "shard-00003-model-00001-of-00001.safetensors"
        shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    dist.barrier()
    into = zeros(good[4])
    passed_over = load_newest(folder / "R2", into, world=worlds[4], warn=warned.append)
    assert passed_over[0] == folder / "R2" / "step-00000005"
    assert differing(into, good[4]) == []
    with pytest.raises(DamagedCheckpoint, match="shard-00003.* with another checksum"):
        load(path, into, world=world)

    # Replaced, kept and pruned as by one process, with fewer tensors than ranks.
    for step in (5, 8, 9):
        save(folder / "R2", step, {"seen": torch.tensor(step)}, FACTS, 2, world=world)
    dist.barrier()
    assert names(folder / "R2") == ["step-00000008", "step-00000009"]
    return {"told": told, "warned": warned}


def two_ranks(rank: int, size: int, root: str) -> list[str]:
    wrong = []
    for ranks in (2, 1):
        world = ProcessGroupWorld(Topology(N, size, rank, ranks))
        wanted = held(whole(5), world)
        into = zeros(wanted)
        facts = load(Path(root) / "step-00000005", into, world=world)
        wrong += differing(into, wanted) + [name for name in FACTS if facts[name] != FACTS[name]]
    return wrong


@dataclass
class Ran:
    """What four processes left in a folder, and what each of them returned."""

    folder: Path
    ranks: list[dict[str, list[str]]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("ranks")
    for name in ("four", "two", "elsewhere"):
        (folder / name).mkdir()
    save(folder / "alone", 5, whole(5), FACTS, 2)
    return Ran(folder, run(four_ranks, 4, folder / "four", str(folder)))


def test_errors_are_everyones(ran: Ran) -> None:
    expected = [
        ["found shape [8, 3, 5]", "expected shape [16, 3, 5]", "dictionary.experts"],
        ["gate.weight: found float32, expected float64"],
        ["step-00000006: found that writing failed (File too large)", "earlier checkpoints are untouched"],
        ["not shared by all nodes", "logging.run_dir"],
        ["not shared by all nodes", "logging.run_dir"],
        ["R2: found a folder that is not shared by all nodes", "logging.run_dir"],
    ]
    for rank in ran.ranks:
        assert rank["told"] == ran.ranks[0]["told"]
        for line, fragments in zip(rank["told"], expected, strict=True):
            assert [fragment for fragment in fragments if fragment not in line] == []
            assert "\n" not in line
    assert [len(rank["warned"]) for rank in ran.ranks] == [1, 0, 0, 0]
    assert "step-00000007" in ran.ranks[0]["warned"][0]
    assert names(ran.folder / "elsewhere") == []


@pytest.mark.parametrize("written", ["R4", "kept"])
def test_one_process_reads_what_four_ranks_wrote(ran: Ran, written: str) -> None:
    into = zeros(whole(5))
    assert load(ran.folder / written / "step-00000005", into) == FACTS | {"step": 5}
    assert differing(into, whole(5)) == []


def test_two_ranks_read_what_four_wrote(ran: Ran) -> None:
    assert run(two_ranks, 2, ran.folder / "two", str(ran.folder / "R4")) == [[], []]


def test_the_document_is_of_the_whole_and_tells_the_placement(ran: Ran) -> None:
    many, two, alone = (
        json.loads((ran.folder / name / "step-00000005" / "facts.json").read_text()) for name in ("R4", "kept", "alone")
    )
    assert many["tensors"] == two["tensors"] == alone["tensors"]
    assert many["placement"] == {"world_size": 4, "expert_parallel_size": 4}
    assert two["placement"] == {"world_size": 4, "expert_parallel_size": 2}
    assert alone["placement"] == {"world_size": 1, "expert_parallel_size": 1}


def test_each_number_is_written_once_and_all_ranks_write(ran: Ran) -> None:
    """By the files' headers, read by hand: two parts of each expert tensor, of two replicas each."""
    found, bytes_of = [], []
    for shard in sorted((ran.folder / "kept" / "step-00000005").glob("*.safetensors")):
        content = shard.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        offsets = json.loads(header.pop("__metadata__")["DCP_SHARDING_INFO"])
        found += [
            (name, tuple(offsets[name]["saved_offsets"]), tuple(value["shape"])) for name, value in header.items()
        ]
        bytes_of.append(len(content) - 8 - length)
    wanted = []
    for name, tensor in whole(5).items():
        if is_sharded(name, tensor):
            rest = tuple(tensor.shape[1:])
            wanted += [(name, (first, *(0 for _ in rest)), (N // 2, *rest)) for first in (0, N // 2)]
        else:
            wanted.append((name, (0,) * tensor.dim(), tuple(tensor.shape)))
    assert sorted(found) == sorted(wanted)
    assert sum(bytes_of) == sum(tensor.nbytes for tensor in whole(5).values())
    # More than half are the generator's state, which cannot be divided; three ranks share the rest.
    assert len(bytes_of) == 4
    assert sorted(bytes_of)[2] < 2 * min(bytes_of)
