"""Checkpoints: written whole or not at all, read back exactly, refused when damaged."""

import errno
import json
import math
import os
import pickle
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nid_dist.checkpoints.checkpoint import has_checkpoint, load, load_newest, newest, read_facts, save
from nid_dist.checkpoints.integrity import DamagedCheckpoint
from nid_dist.errors import UserError

SHARD = "shard-00001-model-00001-of-00001.safetensors"


def one(value: float) -> dict[str, Tensor]:
    return {"experts.rows": torch.full((4, 3), float(value))}


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


BASE = torch.arange(12.0).reshape(3, 4)
TENSORS = {
    "matrix": torch.tensor([[1.5, -0.0], [math.inf, 2**-149]]),
    "parameter": torch.nn.Parameter(torch.tensor([1.0, 2.0])),
    "scalar": torch.tensor(3.25),
    "step": torch.tensor(2**53 + 1),
    "int64": torch.tensor([-(2**63), 2**63 - 1]),
    "rng": torch.Generator().manual_seed(7).get_state(),
    "bf16": torch.tensor([1.0, 3.0e38, -(2.0**-130)], dtype=torch.bfloat16),
    "fp16": torch.tensor([65504.0], dtype=torch.float16),
    "fp64": torch.tensor([1.0 + 2.0**-52], dtype=torch.float64),
    "bool": torch.tensor([True, False]),
    "empty": torch.zeros(0),
    "empty rows": torch.zeros(0, 3),
    "a/strided.view": BASE.t(),
    "tied": BASE,
    "part of tied": BASE[1],
}


@pytest.mark.parametrize("name", TENSORS)
def test_each_kind_of_tensor_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    into = {name: torch.zeros_like(TENSORS[name])}
    kept = into[name]
    load(save(tmp_path, 1, {name: TENSORS[name]}, {}, keep=1), into)
    assert into[name] is kept
    assert kept.dtype == TENSORS[name].dtype
    assert torch.equal(kept, TENSORS[name])


def test_all_together_with_shared_memory_and_facts(tmp_path: Path) -> None:
    facts = {"config": {"a": [1, 2.5, None, True, "ü"]}, "best": 0.1 + 0.2, "psnr": math.inf, "nested": {"x": {}}}
    path = save(tmp_path / "new" / "checkpoints", 1234, TENSORS, facts, keep=3)
    assert path == tmp_path / "new" / "checkpoints" / "step-00001234"
    assert names(path) == ["facts.json", SHARD]
    into = {name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()}
    assert load(path, into) == {**facts, "step": 1234}
    assert all(torch.equal(into[name], TENSORS[name]) for name in TENSORS)


def test_keys_of_facts_become_text_and_the_checksum_knows(tmp_path: Path) -> None:
    path = save(tmp_path, 1, one(1), {"losses": {2: 0.5, 10: 0.25}}, keep=1)
    assert load(path, one(0))["losses"] == {"2": 0.5, "10": 0.25}


def test_facts_alone(tmp_path: Path) -> None:
    path = save(tmp_path, 3, one(1), {"model": {"grid": [4, 4]}}, keep=1)
    (path / SHARD).unlink()
    assert read_facts(path) == {"model": {"grid": [4, 4]}, "step": 3}
    (path / "facts.json").unlink()
    with pytest.raises(DamagedCheckpoint, match="no facts.json"):
        read_facts(path)


def test_whether_there_is_anything(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path / "missing")
    assert not has_checkpoint(tmp_path)
    path = save(tmp_path, 3, one(1), {}, keep=1)
    (path / SHARD).unlink()
    assert has_checkpoint(tmp_path)
    assert has_checkpoint(path)


def test_without_tensors(tmp_path: Path) -> None:
    assert load(save(tmp_path, 0, {}, {"a": 1}, keep=1), {}) == {"a": 1, "step": 0}


def test_a_random_generator_continues(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    path = save(tmp_path, 1, {"rng": generator.get_state()}, {}, keep=1)
    wanted = torch.rand(5, generator=generator)
    state = torch.zeros_like(generator.get_state())
    load(path, {"rng": state})
    restored = torch.Generator()
    restored.set_state(state)
    assert torch.equal(torch.rand(5, generator=restored), wanted)


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    """Read by hand after the format's description: 8 bytes of length, a JSON header, the raw numbers."""
    content = (save(tmp_path, 1, {"x": torch.tensor([1.0, 2.0])}, {}, keep=1) / SHARD).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    begin, end = header["x"]["data_offsets"]
    assert (header["x"]["dtype"], header["x"]["shape"]) == ("F32", [2])
    assert struct.unpack("<2f", content[8 + length :][begin:end]) == (1.0, 2.0)


def test_nothing_is_pickled_or_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pickle")

    for module, name in [(torch, "save"), (torch, "load"), (pickle, "dump"), (pickle, "dumps"), (pickle, "load")]:
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    path = save(tmp_path, 1, TENSORS, {"a": 1}, keep=1)
    load(path, {name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()})
    assert {file.suffix for file in path.iterdir()} == {".json", ".safetensors"}


def test_what_is_not_a_tensor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="(?i)tensor"):
        save(tmp_path, 1, {"step": 5}, {}, keep=1)  # type: ignore[dict-item]
    assert not tmp_path.exists() or names(tmp_path) == []


def test_says_nothing_on_the_way(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    load(save(tmp_path, 1, one(1), {}, keep=1), one(0))
    assert not recwarn.list


@pytest.mark.parametrize(
    ("keep", "expected"), [(1, [4]), (2, [3, 4]), (3, [2, 3, 4]), (9, [1, 2, 3, 4])], ids=["1", "2", "3", "all"]
)
def test_keeps_the_last(tmp_path: Path, keep: int, expected: list[int]) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step, one(step), {}, keep=keep)
    assert names(tmp_path) == [f"step-{step:08d}" for step in expected]


def test_what_is_not_complete_or_not_older_neither_counts_nor_goes(tmp_path: Path) -> None:
    for step in (1, 2, 3, 9):
        save(tmp_path, step, one(step), {}, keep=9)
    (tmp_path / "step-00000003" / SHARD).unlink()
    (tmp_path / "notes").mkdir()
    save(tmp_path, 4, one(4), {}, keep=2)
    assert names(tmp_path) == ["notes", "step-00000002", "step-00000003", "step-00000004", "step-00000009"]


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 5, one(1), {"a": 1}, keep=2)
    path = save(tmp_path, 5, one(2), {"a": 2}, keep=2)
    into = one(0)
    assert load(path, into) == {"a": 2, "step": 5}
    assert torch.equal(into["experts.rows"], torch.full((4, 3), 2.0))
    assert names(tmp_path) == ["step-00000005"]


def test_a_replacement_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, 5, one(1), {"a": 1}, keep=2)
    rename = os.rename

    def fail_for_the_new_one(source: Path, target: Path) -> None:
        if ".tmp-" in str(source):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_the_new_one)
    with pytest.raises(UserError, match="Input/output error"):
        save(tmp_path, 5, one(2), {"a": 2}, keep=2)
    assert load(path, one(0))["a"] == 1
    assert names(tmp_path) == ["step-00000005"]


def test_killed_between_the_two_renames_the_old_one_is_found_and_put_back(tmp_path: Path) -> None:
    save(tmp_path, 4, one(4), {}, keep=9)
    path = save(tmp_path, 5, one(5), {}, keep=9)
    hidden = path.with_name(f".step-00000005.old-{dead_pid()}")
    path.rename(hidden)
    assert newest(tmp_path) == hidden
    assert load_newest(tmp_path, one(0))[1]["step"] == 5
    save(tmp_path, 6, one(6), {}, keep=9)
    assert names(tmp_path) == ["step-00000004", "step-00000005", "step-00000006"]


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead, alive = dead_pid(), os.getppid()
    for name in (f".step-00000001.tmp-{dead}", f".step-00000001.gone-{dead}", f".step-00000001.tmp-{alive}"):
        (tmp_path / name / "inside").mkdir(parents=True)
    save(tmp_path, 2, one(2), {}, keep=1)
    assert names(tmp_path) == [f".step-00000001.tmp-{alive}", "step-00000002"]


def test_what_another_host_left_is_not_judged_by_processes_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, here = dead_pid(), os.uname().nodename
    save(tmp_path, 5, one(5), {}, keep=9)
    replaced = (tmp_path / "step-00000005").rename(tmp_path / f".step-00000005.old-{dead}@node-7.cluster")
    for name in (f".step-00000001.tmp-{dead}@{here}", f".step-00000001.tmp-{dead}@node-7.cluster"):
        (tmp_path / name / "inside").mkdir(parents=True)
    assert newest(tmp_path) == replaced

    save(tmp_path, 6, one(6), {}, keep=9)
    assert names(tmp_path) == [f".step-00000001.tmp-{dead}@node-7.cluster", replaced.name, "step-00000006"]
    later = time.time() + 23 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    save(tmp_path, 7, one(7), {}, keep=9)
    assert replaced.exists()
    later += 2 * 3600
    save(tmp_path, 8, one(8), {}, keep=9)
    assert names(tmp_path) == [f"step-0000000{step}" for step in (5, 6, 7, 8)]


@pytest.mark.parametrize("limit", [1000, 30_000], ids=["document", "shard"])
def test_a_disk_that_is_full(tmp_path: Path, limit: int) -> None:
    """The kernel refuses to write beyond the limit, as it does on a full disk; nothing of it stays."""
    path = save(tmp_path, 1, one(1), {}, keep=1)
    tensors = {"x": torch.zeros(10_000)} if limit == 30_000 else one(1)
    facts = {} if limit == 30_000 else {"long": "x" * 2000}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(UserError) as caught:
            save(tmp_path, 2, tensors, facts, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "step-00000002" in str(caught.value)
    assert "File too large" in str(caught.value)
    assert "earlier checkpoints are untouched" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["step-00000001"]
    assert load(path, one(0))["step"] == 1


def test_interrupted_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 1, one(1), {}, keep=1)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="logging.run_dir"):
        save(tmp_path / "file" / "checkpoints", 1, one(1), {}, keep=1)


def test_newest_of_nothing(tmp_path: Path) -> None:
    assert newest(tmp_path / "missing") is None
    assert newest(tmp_path) is None


def test_newest_is_by_number_and_complete(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):
        save(tmp_path, step, one(step), {}, keep=9)
    assert newest(tmp_path) == tmp_path / "step-100000000"
    (tmp_path / "step-100000000" / "facts.json").unlink()
    assert newest(tmp_path) == tmp_path / "step-99999999"


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no checkpoint"):
        load_newest(tmp_path, one(0))


def test_a_part_of_the_tensors(tmp_path: Path) -> None:
    save(tmp_path, 1, {"gate.out.weight": torch.ones(2), "other": torch.ones(3)}, {}, keep=9)
    into = {"gate.out.weight": torch.zeros(2)}
    load_newest(tmp_path, into, partial=True)
    assert torch.equal(into["gate.out.weight"], torch.ones(2))


def test_distributed_tensors_pass_through(tmp_path: Path) -> None:
    """A DTensor sharded over one rank is written by its shard, and read by a DTensor or by a plain tensor."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = DeviceMesh("cpu", [0])
        local = torch.arange(6.0).reshape(3, 2)
        path = save(tmp_path, 1, {"experts.rows": DTensor.from_local(local, mesh, [Shard(0)])}, {}, keep=1)
        sharded = DTensor.from_local(torch.zeros(3, 2), mesh, [Shard(0)])
        load(path, {"experts.rows": sharded})
        assert torch.equal(sharded.to_local(), local)
    finally:
        dist.destroy_process_group()
    plain = torch.zeros(3, 2)
    load(path, {"experts.rows": plain})
    assert torch.equal(plain, local)
