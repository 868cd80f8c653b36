"""GLB files that are put together here: scenes, instances, packed places, and what is refused of them."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from tests.tasks.shapes.formats.cubes import CORNERS, QUADS, STRIP, TRIANGLES, check, write


class Glb:
    """A binary glTF that is put together from arrays."""

    def __init__(self) -> None:
        self.binary, self.document = (
            b"",
            {"asset": {"version": "2.0"}, "buffers": [{}], "bufferViews": [], "accessors": []},
        )

    def view(self, data: bytes, **more: int) -> int:
        self.binary += b"\0" * (-len(self.binary) % 4)
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data), **more}
        self.document["bufferViews"].append(view)
        self.binary += data
        return len(self.document["bufferViews"]) - 1

    def accessor(self, rows: np.ndarray, **more: object) -> int:
        kinds = {"int8": 5120, "uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}
        shape = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[1 if rows.ndim == 1 else rows.shape[1]]
        found = {"bufferView": self.view(rows.tobytes()), "componentType": kinds[rows.dtype.name], "count": len(rows)}
        self.document["accessors"].append(found | {"type": shape} | more)
        return len(self.document["accessors"]) - 1

    def bytes(self, **more: object) -> bytes:
        self.document["buffers"][0]["byteLength"] = len(self.binary)
        text = json.dumps(self.document | more).encode()
        text, data = text + b" " * (-len(text) % 4), self.binary + b"\0" * (-len(self.binary) % 4)
        size = 12 + 8 + len(text) + 8 + len(data)
        head = b"glTF" + struct.pack("<II", 2, size) + struct.pack("<I", len(text)) + b"JSON"
        return head + text + struct.pack("<I", len(data)) + b"BIN\0" + data


def cube(glb: Glb, **more: object) -> dict:
    return {
        "attributes": {"POSITION": glb.accessor(np.array(CORNERS, np.float32))},
        "indices": glb.accessor(np.array(TRIANGLES, np.uint16).ravel()),
        **more,
    }


def test_glb_instances_and_transforms(tmp_path: Path) -> None:
    glb = Glb()
    half = float(np.sqrt(0.5))
    nodes = [
        {"mesh": 0},
        {"children": [2, 3], "translation": [10, 0, 0], "scale": [2, 2, 2]},
        {"mesh": 0, "rotation": [0, 0, half, half]},  # a quarter turn about z: x to y, y to -x
        {"mesh": 0, "matrix": [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 0, 0, 1]},  # mirrored at x = 2.5
        {"mesh": 0, "translation": [100, 0, 0]},  # not in the scene
    ]
    data = glb.bytes(
        meshes=[{"primitives": [cube(glb)]}], nodes=nodes, scenes=[{"nodes": [4]}, {"nodes": [0, 1]}], scene=1
    )
    # 1, and two of side 2: [8, 10] x [0, 2], and 10 + 2 * [4, 5]
    check(write(tmp_path / "a.glb", data), 6 + 2 * 24, 1 + 2 * 8, (0, 0, 0), (20, 2, 2))


def test_glb_gpu_instances(tmp_path: Path) -> None:
    glb = Glb()
    places = glb.accessor(np.array([[0, 0, 0], [3, 0, 0], [0, 6, 0]], np.float32))
    scales = glb.accessor(np.array([[1, 1, 1], [2, 2, 2], [1, 1, -1]], np.float32))
    named = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": places, "SCALE": scales}}}
    nodes = [{"mesh": 0, "extensions": named}]
    data = glb.bytes(meshes=[{"primitives": [cube(glb)]}], nodes=nodes, extensionsRequired=["EXT_mesh_gpu_instancing"])
    check(write(tmp_path / "a.glb", data), 6 + 24 + 6, 1 + 8 + 1, (0, 0, -1), (5, 7, 2))


def test_glb_strips_fans_and_points(tmp_path: Path) -> None:
    glb = Glb()
    places = glb.accessor(np.array(CORNERS, np.float32))
    parts = [np.array(STRIP[:10], np.uint8), np.array(STRIP[11:15], np.uint32)]
    primitives = [{"attributes": {"POSITION": places}, "indices": glb.accessor(part), "mode": 5} for part in parts]
    fan = np.array([CORNERS[each] for each in QUADS[4]], np.float32)
    primitives.append({"attributes": {"POSITION": glb.accessor(fan)}, "mode": 6})
    primitives.append({"attributes": {"POSITION": glb.accessor(np.full((3, 3), 9, np.float32))}, "mode": 0})
    data = glb.bytes(meshes=[{"primitives": primitives}], nodes=[{"mesh": 0}])
    check(write(tmp_path / "a.glb", data), 6, 1, (0, 0, 0), (1, 1, 1))


def test_glb_quantized_sparse_interleaved_and_morphed(tmp_path: Path) -> None:
    glb = Glb()
    whole = np.array(CORNERS, np.int16) * 32767
    quantized = cube(glb)
    quantized["attributes"] = {"POSITION": glb.accessor(np.pad(whole, ((0, 0), (0, 0))), normalized=True)}
    # Seven corners at their places, the last at the origin until the sparse part moves it there.
    rows = np.array([*CORNERS[:7], (0, 0, 0)], np.float32)
    at, there = glb.view(np.array([7], np.uint8).tobytes()), glb.view(np.ones((1, 3), np.float32).tobytes())
    sparse = {"count": 1, "indices": {"bufferView": at, "componentType": 5121}, "values": {"bufferView": there}}
    mended = cube(glb) | {"attributes": {"POSITION": glb.accessor(rows, sparse=sparse)}}
    table = np.zeros(8, [("p", "<f4", 3), ("n", "<f4", 3)])
    table["p"], table["n"] = CORNERS, 7
    accessor = glb.accessor(np.array(CORNERS, np.float32))
    glb.document["accessors"][accessor]["bufferView"] = glb.view(table.tobytes(), byteStride=24)
    interleaved = cube(glb) | {"attributes": {"POSITION": accessor}}
    morphed = cube(glb, targets=[{"POSITION": glb.accessor(np.array(CORNERS, np.float32) * 2)}])
    meshes = [{"primitives": [each]} for each in (quantized, mended, interleaved)]
    meshes.append({"primitives": [morphed], "weights": [0.5]})  # twice as large
    nodes = [{"mesh": each, "translation": [3 * each, 0, 0]} for each in range(4)]
    data = glb.bytes(meshes=meshes, nodes=nodes, extensionsRequired=["KHR_mesh_quantization"])
    check(write(tmp_path / "a.glb", data), 3 * 6 + 24, 3 + 8, (0, 0, 0), (11, 2, 2))


def test_a_skinned_glb_is_doubted(tmp_path: Path) -> None:
    glb = Glb()
    data = glb.bytes(meshes=[{"primitives": [cube(glb)]}], nodes=[{"mesh": 0, "skin": 0, "scale": [2, 2, 2]}])
    with pytest.warns(DoubtfulMeaning, match="skeleton"):
        check(write(tmp_path / "a.glb", data), 6, 1, (0, 0, 0), (1, 1, 1))


def test_a_glb_that_asks_for_too_much_or_packs_what_is_not_read(tmp_path: Path) -> None:
    def refused(found: str, change: Callable[[Glb, dict], dict], **more: object) -> None:
        glb = Glb()
        primitive = change(glb, cube(glb))
        path = write(
            tmp_path / "a.glb", glb.bytes(**({"nodes": [{"mesh": 0}]} | more), meshes=[{"primitives": [primitive]}])
        )
        with pytest.raises(UserError, match=found):
            read_mesh(path)

    def accessor(**more: object) -> Callable[[Glb, dict], dict]:
        def change(glb: Glb, primitive: dict) -> dict:
            glb.document["accessors"][0] |= more
            return primitive

        return change

    def unpacked(glb: Glb, primitive: dict) -> dict:
        del glb.document["accessors"][0]["bufferView"]
        return primitive

    def elsewhere(glb: Glb, primitive: dict) -> dict:
        glb.document["buffers"][0]["uri"] = "../../etc/passwd"
        return primitive

    refused("rows that end at byte", accessor(count=10**12))
    refused("rows that end at byte", accessor(byteOffset=8))
    refused("rows that end at byte", accessor(byteOffset=-4))
    refused("number 99 of 2 accessors", lambda glb, each: each | {"indices": 99})
    refused("KHR_draco_mesh_compression", lambda glb, each: each, extensionsRequired=["KHR_draco_mesh_compression"])
    refused("compressed", unpacked)
    refused("in another file", elsewhere)
    refused(
        "node 0 in two places", lambda glb, each: each, nodes=[{"mesh": 0, "children": [0]}], scenes=[{"nodes": [0]}]
    )
    refused("cannot be read", lambda glb, each: {"attributes": {}})
