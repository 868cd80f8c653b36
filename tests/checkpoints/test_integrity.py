"""The document beside the shards: what it says, and what it finds out."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nid_dist.checkpoints.checkpoint import load, load_newest, save
from nid_dist.checkpoints.integrity import (
    DamagedCheckpoint,
    check_files,
    check_tensors,
    read_document,
    write_document,
)
from nid_dist.errors import UserError

SHARD = "shard-00001-model-00001-of-00001.safetensors"
TENSORS = {"experts.rows": torch.zeros(2, 3), "step": torch.tensor(5)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.safetensors").write_bytes(b"abc")
    write_document(tmp_path, 7, TENSORS, {"seed": 3})
    return tmp_path


def test_what_it_says(folder: Path) -> None:
    # The SHA-256 of "abc" is the first example of FIPS 180.
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    contents = {
        "format": 1,
        "step": 7,
        "tensors": {
            "experts.rows": {"shape": [2, 3], "dtype": "float32"},
            "step": {"shape": [], "dtype": "int64"},
        },
        "files": {"a.safetensors": {"bytes": 3, "sha256": abc}},
        "facts": {"seed": 3},
    }
    written = json.loads((folder / "facts.json").read_text())
    assert written.pop("sha256") == hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    assert written == contents
    assert read_document(folder) == contents


def test_every_byte_of_the_document_counts(folder: Path) -> None:
    """Each flipped bit is refused, or changes nothing (such as the case of an escape)."""
    path = folder / "facts.json"
    whole, right = path.read_bytes(), read_document(folder)
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with contextlib.suppress(UserError):
            assert read_document(folder) == right


def test_sizes_are_told_without_reading(folder: Path) -> None:
    files = read_document(folder)["files"]
    (folder / "a.safetensors").write_bytes(b"abd")
    check_files(folder, files, checksums=False)
    with pytest.raises(DamagedCheckpoint, match=r"a.safetensors with another checksum"):
        check_files(folder, files, checksums=True)
    os.truncate(folder / "a.safetensors", 2)
    with pytest.raises(DamagedCheckpoint, match=r"found 2 bytes in a.safetensors, expected 3 bytes"):
        check_files(folder, files, checksums=False)


@pytest.mark.parametrize(
    ("into", "partial", "fragment"),
    [
        ({"experts.rows": (2, 3), "step": ()}, False, None),
        ({"step": ()}, True, None),
        ({"step": ()}, False, "a tensor experts.rows that the configured model lacks"),
        ({"experts.rows": (4, 3), "step": ()}, False, "found shape [2, 3], expected shape [4, 3]"),
        ({"experts.rows": (2, 3), "step": (1,)}, False, "found shape [], expected shape [1]"),
        ({"gate.bias": (1,)}, True, "found no tensor gate.bias"),
    ],
    ids=["all", "some", "too many", "rows", "scalar", "missing"],
)
def test_whether_tensors_fit(
    folder: Path, into: dict[str, tuple[int, ...]], partial: bool, fragment: str | None
) -> None:
    wanted = {name: torch.zeros(shape, dtype=TENSORS.get(name, torch.zeros(1)).dtype) for name, shape in into.items()}
    saved = read_document(folder)["tensors"]
    if fragment is None:
        check_tensors(folder, saved, wanted, partial)
        return
    with pytest.raises(UserError) as caught:
        check_tensors(folder, saved, wanted, partial)
    assert fragment in str(caught.value)


def one(value: float) -> dict[str, Tensor]:
    return {"experts.rows": torch.full((4, 3), float(value))}


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def damage(path: Path, how: str) -> None:
    shard, facts = path / SHARD, path / "facts.json"
    match how:
        case "truncated shard":
            shard.write_bytes(shard.read_bytes()[:-5])
        case "flipped number":
            flip(shard, -1)
        case "flipped header":
            flip(shard, 12)
        case "no shard":
            shard.unlink()
        case "stray shard":
            (path / "other.safetensors").write_bytes(shard.read_bytes())
        case "no facts":
            facts.unlink()
        case "truncated facts":
            facts.write_bytes(facts.read_bytes()[:-5])
        case "binary facts":
            facts.write_bytes(b"\x80\x04\xff\x00")
        case "list of facts":
            facts.write_text("[]")
        case "changed fact":
            facts.write_text(facts.read_text().replace('"seen": 128', '"seen": 129'))
        case "empty facts":
            facts.write_text("{}")


DAMAGES = [
    ("truncated shard", "bytes in shard-00001"),
    ("flipped number", "shard-00001-model-00001-of-00001.safetensors with another checksum"),
    ("flipped header", "another checksum"),
    ("no shard", "no shard-00001"),
    ("stray shard", "other.safetensors"),
    ("no facts", "no facts.json"),
    ("truncated facts", "not JSON"),
    ("binary facts", "not JSON"),
    ("list of facts", "facts.json that is a list"),
    ("changed fact", "facts.json with another checksum"),
    ("empty facts", "facts.json with another checksum"),
]


@pytest.mark.parametrize(("how", "fragment"), DAMAGES)
def test_damage_is_refused_by_name_and_the_one_before_is_used(tmp_path: Path, how: str, fragment: str) -> None:
    save(tmp_path, 1, one(1), {"seen": 64}, keep=9)
    path = save(tmp_path, 2, one(2), {"seen": 128}, keep=9)
    damage(path, how)
    into = one(0)
    with pytest.raises(DamagedCheckpoint) as caught:
        load(path, into)
    assert str(path) in str(caught.value)
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not into["experts.rows"].any()

    said: list[str] = []
    assert load_newest(tmp_path, into, warn=said.append) == (tmp_path / "step-00000001", {"seen": 64, "step": 1})
    assert torch.equal(into["experts.rows"], torch.full((4, 3), 1.0))
    assert len(said) == 1
    assert "step-00000002" in said[0]
    assert "passed over" in said[0]


def test_another_format(tmp_path: Path) -> None:
    path = save(tmp_path, 1, one(1), {}, keep=9)
    facts = path / "facts.json"
    facts.write_text(facts.read_text().replace('"format": 1', '"format": 2'))
    for read in (load, load_newest):
        with pytest.raises(UserError, match="found format 2, expected format 1"):
            read(path, one(0))


SAVED = {"experts.rows": torch.ones(8, 3), "trunk.layers.0.weight": torch.ones(5, 4), "gate.out.weight": torch.ones(2)}


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        ({"experts.rows": torch.zeros(16, 3)}, ["experts.rows", "[8, 3]", "[16, 3]", "dictionary.experts"]),
        ({"trunk.layers.0.weight": torch.zeros(6, 4)}, ["[5, 4]", "[6, 4]", "dictionary.width"]),
        ({"gate.out.weight": torch.zeros(2, 1)}, ["[2]", "[2, 1]", "coding.gate"]),
        ({"gate.more": torch.zeros(2)}, ["no tensor gate.more", "coding.gate"]),
        ({"a": torch.zeros(1), "b": torch.zeros(1)}, ["no tensor a (and 1 more)"]),
        ({"experts.rows": torch.zeros(8, 3).bfloat16()}, ["found float32", "bfloat16", "training.precision"]),
        ({"gate.out.weight": None}, ["gate.out.weight", "lacks", "coding.gate"]),
    ],
    ids=["experts", "trunk", "gate", "missing", "two missing", "dtype", "extra"],
)
def test_other_tensors_are_refused_before_any_is_overwritten(
    tmp_path: Path, change: dict[str, Tensor | None], fragments: list[str]
) -> None:
    save(tmp_path, 1, SAVED, {}, keep=9)
    save(tmp_path, 2, SAVED, {}, keep=9)
    wanted = {name: torch.zeros_like(tensor) for name, tensor in SAVED.items()} | change
    into = {name: tensor for name, tensor in wanted.items() if tensor is not None}
    with pytest.raises(UserError) as caught:
        load_newest(tmp_path, into)
    assert not isinstance(caught.value, DamagedCheckpoint), "an older checkpoint would not fit either"
    assert [fragment for fragment in fragments if fragment not in str(caught.value)] == []
    assert not any(tensor.any() for tensor in into.values())


def test_none_is_good(tmp_path: Path) -> None:
    for step in (1, 2):
        (save(tmp_path, step, one(1), {}, keep=9) / SHARD).write_bytes(b"")
    with pytest.raises(UserError, match=r"only damaged checkpoints \(step-00000002, step-00000001\)"):
        load_newest(tmp_path, one(0), warn=lambda line: None)


def test_warns_when_nobody_listens(tmp_path: Path) -> None:
    save(tmp_path, 1, one(1), {}, keep=9)
    (save(tmp_path, 2, one(2), {}, keep=9) / "facts.json").unlink()
    with pytest.warns(UserWarning, match="step-00000002"):
        load_newest(tmp_path, one(0))


def test_one_checkpoint_as_the_source(tmp_path: Path) -> None:
    old = save(tmp_path, 1, one(1), {}, keep=9)
    (save(tmp_path, 2, one(2), {}, keep=9) / "facts.json").unlink()
    assert load_newest(old, one(0)) == (old, {"step": 1})
    with pytest.raises(DamagedCheckpoint):
        load_newest(tmp_path / "step-00000002", one(0))
    copied = old.rename(tmp_path / "best")
    assert load_newest(copied, one(0)) == (copied, {"step": 1})


@pytest.mark.parametrize(("name", "found"), [("missing", "found nothing"), ("file", "found a file")])
def test_not_a_folder(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "file").write_text("")
    for read in (load, load_newest):
        with pytest.raises(UserError, match=found):
            read(tmp_path / name, one(0))
