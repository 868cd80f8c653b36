"""Binary glTF 2.0: the triangles of its scene, each where its nodes put it; pictures and materials are passed over.

What moves or packs places is done (transforms, instances, morph targets, sparse and normalized accessors) or refused by
name (compression, files beside it). Nothing outside of the file is read. Source: the glTF 2.0 specification, Khronos.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from nid_dist.errors import doubt
from nid_dist.tasks.shapes.formats.polygons import strips

_KINDS = {5120: "i1", 5121: "u1", 5122: "i2", 5123: "u2", 5125: "u4", 5126: "f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6  # modes; others are points and lines
_INSTANCES = "EXT_mesh_gpu_instancing"
# Extensions that a file may require without a place being other than read here.
_HARMLESS = ("KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_", "KHR_mesh_quantization", _INSTANCES)
_MOST = 100_000_000  # corners of all instances: a small file can ask for more than any machine holds

Part = tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]


def read_glb(path: Path) -> Part:
    """Places and triangles of all instances of meshes in the file's scene.

    Raises:
        ValueError: for a file that is none, damaged, says what cannot be, or is compressed.
    """
    document, binary = _chunks(path.read_bytes())
    for extension in document.get("extensionsRequired", []):
        if not str(extension).startswith(_HARMLESS):
            raise ValueError(f"the extension {extension}, which is not read: export it without")
    if document.get("asset", {}).get("version", "2.0").split(".")[0] != "2":
        raise ValueError(f"glTF of version {document['asset']['version']}")
    scene = _Scene(document, binary)
    parts = scene.parts()
    if scene.skinned:
        doubt(
            str(path),
            found="a mesh that a skeleton moves",
            taken_as="its shape before it is posed",
            hint="apply the pose before it is exported, if that is meant",
        )
    first = np.cumsum([0, *(len(places) for places, _ in parts[:-1])])
    return (
        np.concatenate([np.zeros((0, 3)), *(places for places, _ in parts)]),
        np.concatenate(
            [np.zeros((0, 3), np.int64), *(faces + start for (_, faces), start in zip(parts, first, strict=False))]
        ),
    )


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    if data[:4] != b"glTF" or len(data) < 20:
        raise ValueError("no glTF header")
    version, length = (int.from_bytes(data[at : at + 4], "little") for at in (4, 8))
    if version != 2 or length != len(data):
        raise ValueError(f"version {version} with {length} bytes, of which there are {len(data)}")
    chunks: dict[bytes, bytes] = {}
    place = 12
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "little")
        if place + 8 + size > len(data):
            raise ValueError(f"a chunk of {size} bytes, of which there are {len(data) - place - 8}")
        chunks.setdefault(data[place + 4 : place + 8], data[place + 8 : place + 8 + size])
        place += 8 + size
    document = json.loads(chunks.get(b"JSON", b"").decode("utf-8"))
    if not isinstance(document, dict):
        raise ValueError("a document that is no object")
    return document, chunks.get(b"BIN\0", b"")


class _Scene:
    """A document and its buffer."""

    def __init__(self, document: dict[str, Any], binary: bytes) -> None:
        self._document, self._binary = document, binary
        self.skinned = False

    def parts(self) -> list[Part]:
        """The triangles of each instance of a mesh."""
        nodes = self._document.get("nodes", [])
        waiting = [(node, np.eye(4)) for node in self._roots(nodes)]
        met: set[int] = set()
        found: list[Part] = []
        total = 0
        while waiting:
            index, above = waiting.pop()
            node = self._item("nodes", index)
            if index in met:
                raise ValueError(f"node {index} in two places")
            met.add(index)
            here = above @ _local(node)
            waiting += [(child, here) for child in reversed(node.get("children", []))]
            if "mesh" not in node:
                continue
            if "skin" in node:  # whose node's transform does not count
                self.skinned, here = True, np.eye(4)
            for places, faces in self._mesh(node):
                for instance in self._instances(node):
                    total += 3 * len(faces)
                    if total > _MOST:
                        raise ValueError(f"more than {_MOST // 3} triangles in all instances")
                    found.append(_moved(places, faces, here @ instance))
        return found

    def _roots(self, nodes: list[Any]) -> list[int]:
        if "scenes" in self._document:
            roots: list[int] = self._item("scenes", self._document.get("scene", 0)).get("nodes", [])
            return list(reversed(roots))
        below = {child for node in nodes for child in node.get("children", [])}
        return [index for index in reversed(range(len(nodes))) if index not in below]

    def _item(self, kind: str, index: Any) -> dict[str, Any]:
        items = self._document.get(kind, [])
        if not isinstance(index, int) or not 0 <= index < len(items) or not isinstance(items[index], dict):
            raise ValueError(f"number {index} of {len(items)} {kind}")
        item: dict[str, Any] = items[index]
        return item

    def _mesh(self, node: dict[str, Any]) -> list[Part]:
        mesh = self._item("meshes", node["mesh"])
        weights = node.get("weights", mesh.get("weights", []))
        parts: list[Part] = []
        for primitive in mesh["primitives"]:
            mode = primitive.get("mode", _TRIANGLES)
            if mode not in (_TRIANGLES, _STRIP, _FAN):
                continue
            places = self._accessor(primitive["attributes"]["POSITION"], "VEC3").astype(np.float64)
            for weight, target in zip(weights, primitive.get("targets", []), strict=False):
                if weight and "POSITION" in target:
                    places = places + weight * self._accessor(target["POSITION"], "VEC3")
            if "indices" in primitive:
                corners = self._accessor(primitive["indices"], "SCALAR")[:, 0].astype(np.int64)
            else:
                corners = np.arange(len(places))
            if len(corners) and (corners.min() < 0 or corners.max() >= len(places)):
                raise ValueError(f"a face with corner {corners.max()} of {len(places)}")
            parts.append((places, _faces(corners, mode)))
        return parts

    def _instances(self, node: dict[str, Any]) -> list[Float[np.ndarray, "4 4"]]:
        named = node.get("extensions", {}).get(_INSTANCES)
        if named is None:
            return [np.eye(4)]
        known = {
            key: self._accessor(named["attributes"][name], kind)
            for key, name, kind in (
                ("translation", "TRANSLATION", "VEC3"),
                ("rotation", "ROTATION", "VEC4"),
                ("scale", "SCALE", "VEC3"),
            )
            if name in named["attributes"]
        }
        count = max((len(rows) for rows in known.values()), default=0)
        return [_local({key: rows[each] for key, rows in known.items()}) for each in range(count)]

    def _accessor(self, index: Any, kind: str) -> np.ndarray:
        """The rows of an accessor of a kind."""
        accessor = self._item("accessors", index)
        if accessor["type"] != kind:
            raise ValueError(f"accessor {index} of the type {accessor['type']} instead of {kind}")
        count, width = accessor["count"], _WIDTHS[kind]
        dtype = np.dtype("<" + _KINDS[accessor["componentType"]])
        if "bufferView" in accessor:
            rows = self._rows(accessor["bufferView"], accessor.get("byteOffset", 0), count, width, dtype)
        elif "sparse" in accessor and 0 <= count <= _MOST // 10:
            rows = np.zeros((count, width), dtype)
        else:
            raise ValueError(f"accessor {index} of {count} rows without data (compressed?): export it uncompressed")
        if "sparse" in accessor:
            sparse, rows = accessor["sparse"], rows.copy()
            where = sparse["indices"]
            order = np.dtype("<" + _KINDS[where["componentType"]])
            at = self._rows(where["bufferView"], where.get("byteOffset", 0), sparse["count"], 1, order)[:, 0]
            values = sparse["values"]
            rows[at] = self._rows(values["bufferView"], values.get("byteOffset", 0), len(at), width, dtype)
        if accessor.get("normalized") and dtype.kind != "f":
            return np.maximum(rows / np.iinfo(dtype).max, -1.0)
        return rows

    def _rows(self, view: Any, offset: int, count: int, width: int, dtype: np.dtype) -> np.ndarray:
        """Rows of numbers of a buffer view."""
        found = self._item("bufferViews", view)
        if any("compression" in name for name in found.get("extensions", {})):
            raise ValueError(f"data compressed by {', '.join(found['extensions'])}: export it uncompressed")
        if found.get("buffer") != 0 or "uri" in self._item("buffers", 0):
            raise ValueError("data in another file: export it as one")
        begin, length = found.get("byteOffset", 0), found["byteLength"]
        size = width * dtype.itemsize
        stride = found.get("byteStride", size)
        end = offset + (count - 1) * stride + size if count else offset
        if min(offset, count, begin) < 0 or stride < size or end > length or begin + length > len(self._binary):
            raise ValueError(f"{count} rows that end at byte {end} of {length}, in a file with {len(self._binary)}")
        table: np.ndarray = np.ndarray((count, width), dtype, self._binary, begin + offset, (stride, dtype.itemsize))
        return table


def _faces(corners: Int[np.ndarray, "c"], mode: int) -> Int[np.ndarray, "F 3"]:
    if mode == _STRIP:
        return strips(corners)
    if mode == _FAN:
        return np.stack([np.broadcast_to(corners[:1], len(corners[2:])), corners[1:-1], corners[2:]], 1)
    if len(corners) % 3:
        raise ValueError(f"triangles of {len(corners)} corners")
    return corners.reshape(-1, 3)


def _local(node: dict[str, Any]) -> Float[np.ndarray, "4 4"]:
    """A node's transform."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = np.asarray(node.get("rotation", (0, 0, 0, 1)), np.float64).tolist()
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    found = np.eye(4)
    found[:3, :3] = turn * np.asarray(node.get("scale", (1, 1, 1)), np.float64)
    found[:3, 3] = np.asarray(node.get("translation", (0, 0, 0)), np.float64)
    return found


def _moved(places: np.ndarray, faces: np.ndarray, transform: Float[np.ndarray, "4 4"]) -> Part:
    """A part in the scene; a reflection turns its faces, which would look inwards."""
    if np.linalg.det(transform[:3, :3]) < 0:
        faces = faces[:, ::-1]
    return places @ transform[:3, :3].T + transform[:3, 3], faces
