"""Meshes of every format, which say one body in many ways; read by `nid-prepare shapes`."""

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from nid_dist.benchmarks.bad_inputs.reader import Files, Meaning, Reader, command

_ALIKE = 1e-3

Bodies = Sequence[tuple[np.ndarray, np.ndarray]]
"""Corners and quadrilaterals of each."""


def boxes() -> Bodies:
    """Two boxes side by side, of different sizes."""
    quads = np.array([(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)])
    cube = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    return [(cube * (2, 1, 1.5), quads), (cube * (1, 3, 0.5) + (2.5, 0.25, 0), quads)]


def triangles(bodies: Bodies) -> tuple[np.ndarray, np.ndarray]:
    """All corners, and all faces cut into triangles."""
    start = np.cumsum([0, *(len(points) for points, _ in bodies)])
    faces = [quads + first for (_, quads), first in zip(bodies, start, strict=False)]
    cut = [quad[[0, *pair]] for quad in np.concatenate(faces) for pair in ((1, 2), (2, 3))]
    return np.concatenate([points for points, _ in bodies]), np.array(cut)


def prepared(given: Path, out: Path) -> int:
    """`nid-prepare shapes` of all meshes in a folder."""
    where = ["shapes", "--input", str(given), "--out", str(out), "--cores", "1"]
    return command("nid-prepare")([*where, "--samples", "200", "--surface", "50", "--grid", "0"])


def body(out: Path) -> np.ndarray:
    """Area, volume, extent and moments of the surface that was prepared, in units of its box."""
    (path,) = (path for path in out.rglob("*.safetensors"))
    tensors = load_file(path)
    corners = tensors["vertices"][tensors["faces"]].astype(float)
    first, second, third = corners.transpose(1, 0, 2)
    doubled = np.linalg.norm(np.cross(second - first, third - first), axis=1)
    volume = np.linalg.det(corners).sum() / 6
    middle = (corners.mean(1) * doubled[:, None]).sum(0) / doubled.sum()
    return np.concatenate([[doubled.sum() / 2, volume], corners.min((0, 1)), corners.max((0, 1)), middle])


def readers() -> Iterator[Reader]:
    """Of each format."""
    kinds = {"obj": (obj(boxes()), _obj()), "ply": (ply(boxes()), _ply()), "off": (off(boxes()), _off())}
    kinds |= {"stl": (stl(boxes()), _stl()), "glb": (glb(boxes()), _glb())}
    for kind, (good, meanings) in kinds.items():
        file = f"body.{kind}"
        broken = [Meaning(what, {file: bad}, _truth(same), _ALIKE) for what, bad, same in meanings]
        yield Reader(kind, {file: good}, [file], prepared, body, share=1.2, meanings=broken)


Kinds = Iterator[tuple[str, bytes, Bodies | None]]
"""What is wrong, a file, and what it still says; None: nothing that can be known."""


def _truth(bodies: Bodies | None) -> Files | None:
    return None if bodies is None else {"body.obj": obj(bodies)}


def obj(bodies: Bodies) -> bytes:
    """Triangles of all bodies, counted from 1."""
    points, faces = triangles(bodies)
    return _lines([*(f"v {x} {y} {z}" for x, y, z in points), *(f"f {a} {b} {c}" for a, b, c in faces + 1)])


def _lines(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _obj() -> Kinds:
    points, faces = triangles(boxes())
    plain = obj(boxes())
    relative, quads, first = [], [], 1
    for number, (own, sides) in enumerate(boxes()):
        corners = [f"v {x} {y} {z}" for x, y, z in own]
        relative += [*corners, *("f " + " ".join(str(each - len(own)) for each in side) for side in sides)]
        quads += [f"o body{number}", *corners, *("f " + " ".join(str(each + first) for each in side) for side in sides)]
        first += len(own)
    yield "relative indices", _lines(relative), boxes()
    slashed = [line.replace("f -", "f -").replace(" -", " x-") if line[0] == "f" else line for line in relative]
    both = [
        "f " + " ".join(f"{word[1:]}//-1" for word in line.split()[1:]) if line[0] == "f" else line for line in slashed
    ]
    yield "relative indices with normals", _lines(["vn 0 0 1", *both]), boxes()
    yield "quadrilaterals", _lines(quads), boxes()
    yield "other line ends", plain.replace(b"\n", b"\r\n"), boxes()
    yield (
        "colours of corners",
        _lines([*(f"v {x} {y} {z} 0.5 0.5 0.5" for x, y, z in points), *plain.decode().splitlines()[len(points) :]]),
        boxes(),
    )
    yield "faces first", _lines(sorted(plain.decode().splitlines(), key=lambda line: line[0] != "f")), boxes()
    textured = [f"f {a}/1/1 {b}/1/1 {c}/1/1" for a, b, c in faces + 1]
    yield (
        "texture and normals",
        _lines([*plain.decode().splitlines()[: len(points)], "vt 0 0", "vn 0 0 1", *textured]),
        boxes(),
    )
    yield "lines continued", plain.replace(b"f ", b"f \\\n"), boxes()
    yield "a corner too many", plain + b"f 1 2 99\n", None
    yield (
        "counted from 0",
        _lines([*plain.decode().splitlines()[: len(points)], *(f"f {a} {b} {c}" for a, b, c in faces)]),
        None,
    )
    yield (
        "inside out",
        _lines([*plain.decode().splitlines()[: len(points)], *(f"f {c} {b} {a}" for a, b, c in faces + 1)]),
        boxes(),
    )
    yield "decimal commas", plain.replace(b".", b","), None
    half = [f"f {c} {b} {a}" if a >= len(boxes()[0][0]) else f"f {a + 1} {b + 1} {c + 1}" for a, b, c in faces]
    yield "one of two inside out", _lines([*plain.decode().splitlines()[: len(points)], *half]), None
    yield (
        "without thickness",
        _lines([*(f"v {x} {y} 0" for x, y, _ in points), *plain.decode().splitlines()[len(points) :]]),
        None,
    )


def ply(
    bodies: Bodies, kind: str = "ascii", *, number: str = "float", faces: str | None = None, before: str = ""
) -> bytes:
    """Triangles of all bodies, as text, or in bytes of an order."""
    points, cut = triangles(bodies)
    head = ["ply", f"format {kind} 1.0", "comment two boxes", *filter(None, [before]), f"element vertex {len(points)}"]
    head += [f"property {number} {axis}" for axis in "xyz"]
    rows = [list(map(int, face)) for face in cut]
    if faces != "strips":
        head += [f"element face {len(rows)}", f"property list uchar {faces or 'int'} vertex_indices"]
        lists = rows
    else:
        head += ["element tristrips 1", "property list int int vertex_indices"]
        lists = [[index for row in rows for index in (*row, -1)]]
    header = _lines([*head, "end_header"])
    if kind == "ascii":
        return header + _lines(
            [
                *(" ".join(map(repr, map(float, point))) for point in points),
                *(f"{len(row)} " + " ".join(map(str, row)) for row in lists),
            ]
        )
    order = "<" if "little" in kind else ">"
    code = {"float": "f4", "double": "f8"}[number]
    index = {"int": "i4", "uint": "u4", "ushort": "u2", "uchar": "u1"}[
        faces if faces not in (None, "strips") else "int"
    ]
    count = "i4" if faces == "strips" else "u1"
    tail = b"".join(
        np.array(len(row), order + count).tobytes() + np.array(row, order + index).tobytes() for row in lists
    )
    return header + points.astype(order + code).tobytes() + tail


def _ply() -> Kinds:
    yield "little-endian", ply(boxes(), "binary_little_endian"), boxes()
    yield "big-endian", ply(boxes(), "binary_big_endian"), boxes()
    yield "doubles", ply(boxes(), "binary_big_endian", number="double", faces="ushort"), boxes()
    yield "strips", ply(boxes(), faces="strips"), boxes()
    yield "strips in bytes", ply(boxes(), "binary_little_endian", faces="strips"), boxes()
    yield "other line ends", ply(boxes()).replace(b"\n", b"\r\n"), boxes()
    yield "obj_info", ply(boxes(), before="obj_info by hand"), boxes()
    plain = ply(boxes())
    yield "vertex_index", plain.replace(b"vertex_indices", b"vertex_index"), boxes()
    yield "a face less than promised", plain[: plain.rstrip().rfind(b"\n") + 1], None
    yield "no faces", plain[: plain.index(b"element face")] + b"end_header\n" + b"0 0 0\n" * 16, None
    yield "another order than said", ply(boxes(), "binary_big_endian").replace(b"binary_big", b"binary_little"), None


def off(bodies: Bodies) -> bytes:
    """Triangles of all bodies."""
    points, faces = triangles(bodies)
    rows = [*(f"{x} {y} {z}" for x, y, z in points), *(f"3 {a} {b} {c}" for a, b, c in faces)]
    return _lines(["OFF", f"{len(points)} {len(faces)} 0", *rows])


def _off() -> Kinds:
    plain = off(boxes()).decode().splitlines()
    points, faces = triangles(boxes())
    corners, rest = plain[2 : 2 + len(points)], plain[2 + len(points) :]
    yield "comments", _lines(["OFF # two boxes", "# counts", plain[1], "", *corners, "# faces", *rest]), boxes()
    yield "counts beside the word", _lines([f"OFF {plain[1]}", *plain[2:]]), boxes()
    yield "colours of faces", _lines([*plain[:2], *corners, *(f"{line} 255 0 0" for line in rest)]), boxes()
    yield "colours of corners", _lines(["COFF", plain[1], *(f"{line} 255 0 0 255" for line in corners), *rest]), boxes()
    yield "normals of corners", _lines(["NOFF", plain[1], *(f"{line} 0 0 1" for line in corners), *rest]), boxes()
    yield "other line ends", off(boxes()).replace(b"\n", b"\r\n"), boxes()
    quads, first = [], 0
    for own, sides in boxes():
        quads += ["4 " + " ".join(map(str, side + first)) for side in sides]
        first += len(own)
    yield "quadrilaterals", _lines(["OFF", f"{len(points)} {len(quads)} 0", *corners, *quads]), boxes()
    yield "a face less than promised", _lines(plain[:-1]), None
    yield (
        "bytes",
        b"OFF BINARY\n" + struct.pack(">iii", len(points), len(faces), 0) + points.astype(">f4").tobytes(),
        None,
    )


def stl(bodies: Bodies, *, head: bytes = b"", attribute: int = 0, count: int | None = None) -> bytes:
    """Triangles of all bodies in bytes."""
    points, faces = triangles(bodies)
    rows = [struct.pack("<12fH", 0, 0, 0, *points[face].reshape(-1), attribute) for face in faces]
    return head.ljust(80, b" ") + struct.pack("<I", len(rows) if count is None else count) + b"".join(rows)


def _stl() -> Kinds:
    points, faces = triangles(boxes())
    facets = [
        [
            "facet normal 0 0 0",
            "outer loop",
            *(f"vertex {x} {y} {z}" for x, y, z in points[face]),
            "endloop",
            "endfacet",
        ]
        for face in faces
    ]
    flat = [line for facet in facets for line in facet]
    yield "text", _lines(["solid two boxes", *flat, "endsolid"]), boxes()
    half = len(flat) // 2
    yield (
        "text of two solids",
        _lines(["solid a", *flat[:half], "endsolid a", "solid b", *flat[half:], "endsolid b"]),
        boxes(),
    )
    yield "text, cut", _lines(["solid a", *flat[:half]]), None
    yield "bytes that begin with solid", stl(boxes(), head=b"solid made by a program"), boxes()
    yield "attributes", stl(boxes(), attribute=31), boxes()
    yield "fewer faces than there are", stl(boxes(), count=len(faces) // 2), None
    yield "more faces than there are", stl(boxes(), count=2 * len(faces)), None
    yield "normals against the corners", stl([(own, sides[:, ::-1]) for own, sides in boxes()]), boxes()


def glb(
    bodies: Bodies,
    nodes: Sequence[dict[str, Any]] | None = None,
    *,
    kind: type[np.unsignedinteger] = np.uint16,
    indexed: bool = True,
    strip: bool = False,
    extra: dict[str, Any] | None = None,
) -> bytes:
    """A mesh for each body; a node for each mesh, or as they are given."""
    blob, views, accessors, meshes = b"", [], [], []

    def add(values: np.ndarray, component: int, shape: str, **more: Any) -> int:
        nonlocal blob
        blob += b"\0" * (-len(blob) % 4)
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": values.nbytes})
        accessors.append(
            {"bufferView": len(views) - 1, "componentType": component, "count": len(values), "type": shape, **more}
        )
        blob += values.tobytes()
        return len(accessors) - 1

    for each in bodies:
        points, faces = triangles([each])
        if not indexed:
            points, faces = points[faces].reshape(-1, 3), faces
        single = points.astype(np.float32)
        low, high = single.min(0).tolist(), single.max(0).tolist()
        primitive: dict[str, Any] = {"attributes": {"POSITION": add(single, 5126, "VEC3", min=low, max=high)}}
        if indexed:
            order = _one_strip(faces) if strip else faces.reshape(-1)
            component = {np.uint8: 5121, np.uint16: 5123, np.uint32: 5125}[kind]
            primitive["indices"] = add(order.astype(kind), component, "SCALAR")
            primitive["mode"] = 5 if strip else 4
        meshes.append({"primitives": [primitive]})
    nodes = nodes or [{"mesh": place} for place in range(len(meshes))]
    content = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [
            {
                "nodes": [
                    place for place in range(len(nodes)) if not any(place in node.get("children", []) for node in nodes)
                ]
            }
        ],
        "nodes": nodes,
        "meshes": meshes,
        "buffers": [{"byteLength": len(blob)}],
        "bufferViews": views,
        "accessors": accessors,
        **(extra or {}),
    }
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    blob += b"\0" * (-len(blob) % 4)
    parts = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob
    return b"glTF" + struct.pack("<II", 2, 12 + len(parts)) + parts


def _one_strip(faces: np.ndarray) -> np.ndarray:
    """All faces in one strip, joined by faces without area; each begins at an even place."""
    order: list[int] = []
    for face in faces.tolist():
        if order:
            order += [order[-1], face[0]]
            if len(order) % 2:
                order.append(face[0])
        order += face
    return np.array(order)


def _glb() -> Kinds:
    for kind in (np.uint8, np.uint32):
        yield f"indices of {kind.__name__}", glb(boxes(), kind=kind), boxes()
    yield "without indices", glb(boxes(), indexed=False), boxes()
    yield "strips", glb(boxes(), strip=True), boxes()
    moved = [(points - (5, 0, 0), quads) for points, quads in boxes()]
    yield "moved", glb(moved, [{"mesh": 0, "translation": [5, 0, 0]}, {"mesh": 1, "translation": [5, 0, 0]}]), boxes()
    halved = [(points / 2, quads) for points, quads in boxes()]
    yield "scaled above", glb(halved, [{"mesh": 0}, {"mesh": 1}, {"children": [0, 1], "scale": [2, 2, 2]}]), boxes()
    turned = [(points[:, [1, 0, 2]] * (1, -1, 1), quads) for points, quads in boxes()]
    quarter = {"rotation": [0, 0, 2**-0.5, 2**-0.5]}
    yield "turned", glb(turned, [{"mesh": 0, **quarter}, {"mesh": 1, **quarter}]), boxes()
    mirrored = [(points * (-1, 1, 1), quads[:, ::-1]) for points, quads in boxes()]
    flip = {"scale": [-1, 1, 1]}
    yield "mirrored", glb(mirrored, [{"mesh": 0, **flip}, {"mesh": 1, **flip}]), boxes()
    matrix = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 0, 0, 1]
    yield "moved by a matrix", glb(moved, [{"mesh": 0, "matrix": matrix}, {"mesh": 1, "matrix": matrix}]), boxes()
    yield "a mesh that no scene shows", glb(boxes(), [{"mesh": 0}]), boxes()[:1]
    yield (
        "Draco",
        glb(
            boxes(),
            extra={
                "extensionsRequired": ["KHR_draco_mesh_compression"],
                "extensionsUsed": ["KHR_draco_mesh_compression"],
            },
        ),
        None,
    )
    whole = glb(boxes())
    yield "cut", whole[: len(whole) - 40], None
