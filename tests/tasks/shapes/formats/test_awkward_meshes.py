"""Each format's awkward files, written by hand here: area, volume and place of what they mean are known."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.tasks.shapes.formats.text_columns import read_columns
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from tests.tasks.shapes.formats.cubes import CORNERS, QUADS, STRIP, TRIANGLES, check, volume, write

# A U of three unit squares, as one face, and the same as a closed prism of height 1.
U = [(0, 0), (3, 0), (3, 2), (2, 2), (2, 1), (1, 1), (1, 2), (0, 2)]  # area 5, round 12


def prism() -> tuple[list[tuple[int, int, int]], list[list[int]]]:
    count = len(U)
    places = [(x, y, z) for z in (0, 1) for x, y in U]
    sides = [[i, (i + 1) % count, count + (i + 1) % count, count + i] for i in range(count)]
    return places, [list(range(count))[::-1], list(range(count, 2 * count)), *sides]


def obj(places: list, faces: list, first: int = 1) -> str:
    lines = [f"v {x} {y} {z}" for x, y, z in places]
    return "\n".join(lines + ["f " + " ".join(str(each + first) for each in face) for face in faces]) + "\n"


def relative_obj() -> str:
    """Two cubes, each part's corners counted back from it: the second one stands 10 to the right."""
    text = ""
    for shift in (0, 10):
        text += "".join(f"v {x + shift} {y} {z}\n" for x, y, z in CORNERS)
        text += "".join("f " + " ".join(f"{each - 8}/-1/-1" for each in quad) + "\n" for quad in QUADS)
        text += "vt 0 0\nvn 0 0 1\n" if not shift else ""
    return text


@pytest.mark.parametrize(
    ("text", "area", "inside", "right"),
    [
        (relative_obj(), 12, 2, 11),
        (obj(CORNERS, QUADS), 6, 1, 1),
        (obj(CORNERS, QUADS).replace("\n", "\r\n"), 6, 1, 1),
        (obj(CORNERS, QUADS).replace("\n", "\r"), 6, 1, 1),
        (obj(CORNERS, QUADS).replace(" ", "\t"), 6, 1, 1),
        ("\ufeff" + obj(CORNERS, QUADS), 6, 1, 1),
        (obj(CORNERS, QUADS).replace("f ", "  f ").replace("v ", " v "), 6, 1, 1),
        (obj(CORNERS, QUADS).replace("f 1 2 4 3", "f 1 2 \\\n 4 3"), 6, 1, 1),
        (obj(CORNERS, QUADS).replace("f 1 2 4 3", "f 1 2 4 3 # 7 8 9"), 6, 1, 1),
        (obj(CORNERS, QUADS).replace("v 0 0 0", "v 0 0 0 1.0").replace("v 1 1 1", "v 1e+0 10e-1 1 0 1 0"), 6, 1, 1),
        (obj(CORNERS, QUADS) + "g one\nl 1 2\np 3\nf 1 1 2\ns off\nusemtl gone\n", 6, 1, 1),
        ("\n".join(reversed(obj(CORNERS, QUADS).split("\n")[8:])) + "\n" + obj(CORNERS, []), 6, 1, 1),  # faces first
        (obj(*prism()), 22, 5, 3),  # faces that are not convex, seen from both sides
        (obj([(y, z, x) for x, y, z in prism()[0]], prism()[1]), 22, 5, 2),
        (obj([(z, x, y) for x, y, z in prism()[0]], prism()[1]), 22, 5, 1),
    ],
)  # fmt: skip
def test_obj(tmp_path: Path, text: str, area: float, inside: float, right: float) -> None:
    path = tmp_path / "a.obj"
    path.write_bytes(text.encode())
    mesh = read_mesh(path)
    assert mesh.areas.sum() == pytest.approx(area) and volume(mesh) == pytest.approx(inside)
    assert mesh.vertices[:, 0].max() == right and (mesh.vertices.min(0) == 0).all()


def ply_header(kind: str, vertex: str, *others: str) -> str:
    return f"ply\nformat {kind} 1.0\ncomment by hand\nobj_info none\n{vertex}{''.join(others)}end_header\n"


XYZ = "element vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
FACES = "property list uchar int vertex_indices\n"
PLACES = "".join(f"{x} {y} {z}\n" for x, y, z in CORNERS)


def binary_faces(order: str, faces: list, before: str = "", after: str = "") -> bytes:
    data = b""
    for face in faces:
        data += struct.pack(f"{order}{before}", *([7] * len(before)))
        data += struct.pack(f"{order}B{len(face)}i", len(face), *face) + struct.pack(
            f"{order}{after}", *[0.5] * len(after)
        )
    return data


def ply_files() -> dict[str, bytes]:
    mixed = [*QUADS[:3], *TRIANGLES[6:]]
    texts = "".join(" ".join(map(str, (len(face), *face))) + "\n" for face in mixed)
    files = {
        "mixed": (ply_header("ascii", XYZ, f"element face {len(mixed)}\n", FACES) + PLACES + texts).encode(),
        "strip": (
            ply_header("ascii", XYZ, "element tristrips 1\nproperty list int int vertex_indices\n")
            + PLACES + " ".join(map(str, [len(STRIP), *STRIP])) + "\n"
        ).encode(),
    }  # fmt: skip
    files["crlf"] = files["mixed"].replace(b"\n", b"\r\n")
    files["old index name"] = files["mixed"].replace(b"vertex_indices", b"vertex_index")
    for kind, order in (("binary_little_endian", "<"), ("binary_big_endian", ">")):
        places = np.array(CORNERS, f"{order}f4").tobytes()
        doubles = b"".join(struct.pack(f"{order}B3d", 9, *map(float, place)) for place in CORNERS)
        wide = XYZ.replace("float", "double").replace("8\n", "8\nproperty uchar red\n")
        files[f"{kind} triangles"] = (
            ply_header(kind, XYZ, "element face 12\n", FACES).encode() + places + binary_faces(order, TRIANGLES)
        )
        files[f"{kind} mixed"] = (
            ply_header(kind, wide, "element face 9\nproperty uchar flags\n", FACES, "property float quality\n").encode()
            + doubles + binary_faces(order, mixed, "B", "f")
        )  # fmt: skip
        files[f"{kind} strip"] = (
            ply_header(kind, XYZ, "element tristrips 1\nproperty list int int vertex_indices\n").encode()
            + places + struct.pack(f"{order}{1 + len(STRIP)}i", len(STRIP), *STRIP)
        )  # fmt: skip
        # Faces before the places, and an element behind them that nothing is known of.
        files[f"{kind} order"] = (
            ply_header(kind, "element face 12\n" + FACES, XYZ, "element material 1\nproperty uchar a\n").encode()
            + binary_faces(order, TRIANGLES) + places + b"\x05"
        )  # fmt: skip
    return files


@pytest.mark.parametrize("name", ply_files())
def test_ply(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(ply_files()[name])
    check(path, 6, 1, (0, 0, 0), (1, 1, 1))


def off(keyword: str, behind: str = "", place: Callable = lambda x, y, z: f"{x} {y} {z}", face: str = "") -> str:
    rows = [place(*corner) + behind for corner in CORNERS]
    faces = [" ".join(map(str, (4, *quad))) + face for quad in QUADS]
    return f"{keyword}8 6 12\n# a comment, OFF\n\n" + "\n".join(rows + faces) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        off("OFF\n"),
        off("OFF "),
        off(""),
        off("# made by hand, COFF\nOFF # yes\n", face=" 255 0 0"),
        off("COFF\n", " 255 0 0 255"),
        off("NOFF\n", " 0 0 1"),
        off("CNOFF\n", " 0 0 1 0.5 0.5 0.5 1"),
        off("STOFF\n", " 0.5 0.5"),
        off("4OFF\n", place=lambda x, y, z: f"{2 * x} {2 * y} {2 * z} 2"),
        off("nOFF\n3\n"),
        off("OFF\n").replace("\n", "\r\n"),
        off("OFF\n", face="  # colour"),
    ],
)
def test_off(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.off"
    path.write_bytes(text.encode())
    check(path, 6, 1, (0, 0, 0), (1, 1, 1))


def stl_text(name: str = "vertex of endsolid") -> str:
    rows = [
        "facet normal 0 0 0\nouter loop\n"
        + "".join(f"vertex {x} {y} {z}\n" for x, y, z in corners)
        + "endloop\nendfacet\n"
        for corners in ([CORNERS[each] for each in face] for face in TRIANGLES)
    ]
    return f"solid {name}\n{''.join(rows[:6])}endsolid {name}\nsolid two\n{''.join(rows[6:])}endsolid two\n"


def stl_binary(header: bytes) -> bytes:
    rows = [struct.pack("<12fH", 0, 0, 0, *np.array([CORNERS[each] for each in face]).ravel(), 7) for face in TRIANGLES]
    return header.ljust(80, b"\0") + struct.pack("<I", len(rows)) + b"".join(rows)


@pytest.mark.parametrize(
    "data",
    [
        stl_text().encode(),
        stl_text().upper().replace("\n", "\r\n").encode(),
        ("   " + stl_text().replace("\n", "\n\t")).encode(),
        stl_binary(b"binary"),
        stl_binary(b"solid though binary"),
    ],
)
def test_stl(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.stl"
    path.write_bytes(data)
    check(path, 6, 1, (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("zero.obj", obj(CORNERS, QUADS, 0), "line 9: 'f 0 1 3 2': corner 0"),
        ("back.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -1 -2 -4\n", "line 4: .*corner -4 after 3 places"),
        ("few.obj", "v 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "line 1"),
        ("words.obj", "v 0 0 0\nv 1,0 0 0\nv 0 1 0\nf 1 2 3\n", "line 2: 'v 1,0 0 0'"),
        ("curved.obj", "v 0 0 0\nsurf 0 1 0 1 1 2\n", "free-form"),
        ("far.obj", obj(CORNERS, [*QUADS, (0, 1, 8)]), "corner 8 of 8"),
        ("short.ply", ply_files()["binary_big_endian mixed"][:-3], "rows of face"),
        ("long.ply", ply_files()["binary_little_endian triangles"] + b"more", "4 bytes behind"),
        ("count.ply", ply_files()["mixed"].replace(b"face 9", b"face 8"), "1 lines behind"),
        ("words.ply", ply_files()["mixed"].replace(b"4 0 1 3 2", b"4 0 1 three 2"), "line 20"),
        ("types.ply", ply_files()["mixed"].replace(b"float x", b"floot x"), "property floot x"),
        ("far.ply", ply_files()["mixed"].replace(b"4 0 1 3 2", b"4 0 1 3 8"), "corner 8 of 8"),
        ("huge.ply", ply_files()["mixed"].replace(b"vertex 8", b"vertex 99999999999"), "of 99999999999 rows"),
        ("short.stl", stl_text().rpartition("endsolid")[0].encode(), "end within a solid"),
        ("corner.stl", stl_text().replace("vertex 0 0 0\n", "", 1).encode(), "a triangle with 2 corners"),
        ("long.stl", stl_binary(b"solid") + b"abc", "603 bytes for 12 triangles"),
        ("short.off", off("OFF\n").rstrip().rpartition("\n")[0], "13 lines for 8 places and 6 faces"),
        ("binary.off", "OFF BINARY\n", "a binary OFF"),
        ("corners.off", off("OFF\n").replace("4 0 1 3 2", "5 0 1 3 2"), "4 of 5 numbers"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, data: str | bytes, found: str) -> None:
    path = write(tmp_path / name, data.encode() if isinstance(data, str) else data)
    with pytest.raises(UserError, match=found):
        read_mesh(path)


def test_coordinates_that_single_precision_has_rounded(tmp_path: Path) -> None:
    ball = np.random.default_rng(0).normal(size=(60, 3))
    faces = [(i, i + 1, i + 2) for i in range(58)]
    far = (ball + 1e6).astype(np.float32).astype(float)
    with pytest.warns(DoubtfulMeaning, match="single precision"):
        read_mesh(write(tmp_path / "a.obj", obj(far.tolist(), faces).encode()))
    # In double precision it is as good as at the origin, and so is a tiny one.
    for places in (ball + 1e6, 1e-9 * ball):
        mesh = read_mesh(write(tmp_path / "a.obj", obj(places.tolist(), faces).encode()))
        assert len(mesh.faces) == 58


def test_a_last_line_that_was_cut_is_doubted(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    places = [(x + 0.125, y + 0.125, z + 0.125) for x, y, z in CORNERS]
    whole = obj(places, TRIANGLES)
    cloud = "".join(f"{x:.3f} {y:.3f} {z:.3f}\n" for x, y, z in places * 2)
    for text in (whole, whole.rstrip("\n")):
        assert len(read_mesh(write(tmp_path / "a.obj", text.encode())).faces) == 12
    for text in (cloud, cloud.rstrip("\n")):
        assert len(read_columns(write(tmp_path / "a.xyz", text.encode()))[0]) == 16
    assert not recwarn.list
    with pytest.warns(DoubtfulMeaning, match="a last line without its end, 'f 2 8'"):
        read_mesh(write(tmp_path / "a.obj", whole[:-3].encode()))
    with pytest.warns(DoubtfulMeaning, match=r"a last line without its end, '1.125 1.125 1.1'"):
        read_columns(write(tmp_path / "a.xyz", cloud[:-3].encode()))
