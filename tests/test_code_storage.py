"""Codes in a file come back exactly, in the announced number of bytes, and nothing else is taken for them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nid_dist.code import Code, load_codes, save_codes, stored_bytes
from nid_dist.detail.detail import Detail
from nid_dist.detail.splines import SplineGrid
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


def test_detail_is_kept_but_for_its_zeros(tmp_path: Path) -> None:
    grids = (SplineGrid.covering((2, 3)), SplineGrid.covering((4, 6)))
    values = torch.randn(3, sum(grid.size for grid in grids), 2)
    values[:, ::3] = 0
    one, path = replace(code(8), detail=Detail(grids, values)), tmp_path / "codes.safetensors"
    save_codes(path, {"omp": one, "init": code(8)}, 8)
    codes, _ = load_codes(path)
    loaded = codes["omp"].detail
    assert loaded is not None and loaded.grids == grids and torch.equal(loaded.values, values)
    assert codes["init"].detail is None
    detail_bytes = stored_bytes(one, 8) - stored_bytes(code(8), 8)
    with safe_open(path, framework="pt") as file:
        stored = [file.get_tensor(f"omp.detail.{part}") for part in ("places", "values")]
    assert 3 * detail_bytes == sum(each.numel() * each.element_size() for each in stored) == 8 * loaded.numbers
    part = Code.concatenate([one.rows(slice(0, 1)), one.rows(slice(1, 3))])
    assert part.detail is not None and torch.equal(part.detail.values, values)
    assert one.to("cpu").detach().detail is not None
    with pytest.raises(ValueError, match="with and without detail"):
        Code.concatenate([one, code(8)])


@pytest.mark.parametrize(
    "change", [{"shape": [3, 5, 2]}, {"shape": [2**20, 2**20, 2]}, {"grids": 3}, {"grids": []}, {"shape": [1, 42, 1]}]
)
def test_detail_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    grids = (SplineGrid.covering((2, 3)), SplineGrid.covering((4, 6)))
    detail = Detail(grids, torch.randn(3, sum(grid.size for grid in grids), 2))
    path = tmp_path / "codes.safetensors"
    save_codes(path, {"omp": replace(code(8), detail=detail)}, 8)
    with safe_open(path, framework="pt") as file:
        tensors, facts = {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["nid_dist"])  # noqa: SIM118
    facts["detail"]["omp"] |= change
    save_file(tensors, path, {"nid_dist": json.dumps(facts)})
    with pytest.raises(UserError, match="no codes"):
        load_codes(path)


@pytest.mark.parametrize("part", ["values", "facts"])
def test_damage_is_never_taken_for_codes(tmp_path: Path, part: str) -> None:
    path = tmp_path / "codes.safetensors"
    save_codes(path, {"omp": code(8)}, 8, {"height": 7})
    whole = path.read_bytes()
    place = len(whole) - 3 if part == "values" else whole.index(b'height\\": 7') + len(b'height\\": ')
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(UserError, match="its checksum differs"):
        load_codes(path)


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
