"""Codes in a file come back exactly, in the announced number of bytes, and nothing else is taken for them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nid_dist.code import Code, load_codes, save_codes, stored_bytes
from nid_dist.errors import UserError


def code(experts: int, signals: int = 3, k: int = 5, channels: int = 2) -> Code:
    generator = torch.Generator().manual_seed(0)
    indices = torch.stack([torch.randperm(experts, generator=generator)[:k] for _ in range(signals)])
    indices[0, 0] = experts - 1
    return Code(torch.randn(signals, k, generator=generator), torch.randn(signals, channels), indices)


@pytest.mark.parametrize(("experts", "bytes_per_index"), [(8, 2), (65536, 2), (65537, 4)])
def test_round_trip_and_size(tmp_path: Path, experts: int, bytes_per_index: int) -> None:
    one, path = code(experts), tmp_path / "codes.safetensors"
    save_codes(path, {"omp": one, "init": one}, experts, {"height": 7, "name": "ü/x.png"})
    codes, facts = load_codes(path)
    assert list(codes) == ["omp", "init"]
    assert facts == {"experts": experts, "methods": ["omp", "init"], "height": 7, "name": "ü/x.png"}
    for loaded in codes.values():
        assert loaded.indices is not None and loaded.indices.dtype == torch.int64
        assert torch.equal(loaded.indices, one.indices)
        assert torch.equal(loaded.values, one.values) and torch.equal(loaded.bias, one.bias)
    assert stored_bytes(one, experts) == 5 * (bytes_per_index + 4) + 2 * 4
    with safe_open(path, framework="pt") as file:
        tensors = [file.get_tensor(f"omp.{part}") for part in ("indices", "values", "bias")]
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors) == 3 * stored_bytes(one, experts)


@pytest.mark.parametrize("content", ["missing", "text", "empty", "other safetensors", "truncated", "lying header"])
def test_what_is_no_codes_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "codes.safetensors"
    if content == "text":
        path.write_text("hello")
    elif content == "empty":
        path.touch()
    elif content == "other safetensors":
        save_file({"x": torch.zeros(2)}, path)
    elif content == "lying header":
        save_file({"x": torch.zeros(2)}, path, metadata={"nid_dist": json.dumps({"methods": ["omp"]})})
    elif content == "truncated":
        save_codes(path, {"omp": code(8)}, 8, {})
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"codes.safetensors: found no codes"):
        load_codes(path)
