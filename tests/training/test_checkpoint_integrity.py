"""The document beside the shards: what it says, and what it finds out."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from nid_dist.errors import UserError
from nid_dist.training.checkpoint_integrity import (
    DamagedCheckpoint,
    check_files,
    check_tensors,
    read_document,
    write_document,
)

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
        try:
            assert read_document(folder) == right
        except UserError as error:
            assert str(folder) in str(error)


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
