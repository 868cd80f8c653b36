"""Clouds in every format, with further properties, and everything that can be wrong with them."""

from pathlib import Path

import numpy as np
import pytest

from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.tasks.shapes.point_clouds import read_cloud

pytestmark = pytest.mark.filterwarnings("ignore:.*found 20 points")

GENERATOR = np.random.default_rng(0)
POINTS = GENERATOR.normal(size=(20, 3)).astype(np.float32)
NORMALS = (POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)).astype(np.float32)


def header(kind: str, count: int = 20, extra: str = "") -> str:
    names = "".join(f"property float {name}\n" for name in ("x", "y", "z"))
    normals = "".join(f"property float {name}\n" for name in ("nx", "ny", "nz"))
    text = f"ply\nformat {kind} 1.0\ncomment made by hand\nelement vertex {count}\n{names}property uchar red\n"
    return f"{text}{normals}property double quality\n{extra}element face 0\nproperty list uchar int i\nend_header\n"


def ply(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.ply"
    if kind == "ascii":
        rows = [f"{a} {b} {c} 7 {d} {e} {f} 0.5" for (a, b, c), (d, e, f) in zip(POINTS, NORMALS, strict=True)]
        path.write_text(header(kind) + "\n".join(rows) + "\n")
        return path
    order = "<" if "little" in kind else ">"
    fields = [("p", f"{order}f4", 3), ("red", "u1"), ("n", f"{order}f4", 3), ("quality", f"{order}f8")]
    table = np.zeros(20, np.dtype(fields))
    table["p"], table["n"] = POINTS, NORMALS
    path.write_bytes(header(kind).encode() + table.tobytes())
    return path


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_with_extra_properties(tmp_path: Path, kind: str) -> None:
    cloud = read_cloud(ply(tmp_path, kind), True)
    assert cloud.normals is not None
    np.testing.assert_allclose(cloud.points, POINTS, rtol=1e-6)
    np.testing.assert_allclose(cloud.normals, NORMALS, rtol=1e-5)
    assert read_cloud(ply(tmp_path, kind), False).normals is None


def test_xyz_and_npy(tmp_path: Path) -> None:
    both = np.concatenate([POINTS, 3 * NORMALS], 1)
    np.savetxt(tmp_path / "a.xyz", both, header="x y z nx ny nz")
    np.save(tmp_path / "a.npy", both)
    np.savetxt(tmp_path / "b.xyz", POINTS, delimiter=",")
    for name in ("a.xyz", "a.npy"):
        cloud = read_cloud(tmp_path / name, True)
        assert cloud.normals is not None
        np.testing.assert_allclose(cloud.points, POINTS, rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1)
    assert read_cloud(tmp_path / "b.xyz", False).points.shape == (20, 3)


def text(separator: str, *columns: np.ndarray, header: str = "", comma: bool = False) -> str:
    rows = [separator.join(f"{each:.7g}" for each in row) for row in np.column_stack(columns)]
    return header + "\n".join(row.replace(".", ",") if comma else row for row in rows) + "\n"


COLOURS = GENERATOR.integers(0, 256, (20, 3))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xyz", text(" ", POINTS, COLOURS, NORMALS)),  # the lengths tell which three are normals
        ("a.txt", text("\t", POINTS, NORMALS, COLOURS)),
        ("a.xyz", text(" ", POINTS, COLOURS[:, :1], NORMALS)),
        ("a.csv", text(";", POINTS, NORMALS, comma=True)),
        ("a.csv", text(", ", POINTS, NORMALS)),
        ("a.csv", text(",", NORMALS, COLOURS, POINTS, header="nx,ny,nz,red,green,blue,x,y,z\n")),
        ("a.csv", text(";", POINTS, NORMALS, header='"X";"Y";"Z";"NX";"NY";"NZ"\n').replace("\n", "\r\n")),
        ("a.asc", text(" ", POINTS, COLOURS, NORMALS, header="//X Y Z R G B Nx Ny Nz\n")),
        ("a.asc", text(" ", NORMALS, POINTS, header="# made by hand\n# nx ny nz x y z\n")),
        ("a.pts", text(" ", POINTS, NORMALS, header="20\n")),
        ("a.txt", "\ufeff" + text(" ", POINTS, NORMALS)),
    ],
)
def test_columns_of_text(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode())
    cloud = read_cloud(tmp_path / name, True)
    assert cloud.normals is not None
    np.testing.assert_allclose(cloud.points, POINTS, rtol=1e-5)
    np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-5)


def test_names_of_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", normals=NORMALS, colors=COLOURS, points=POINTS)
    cloud = read_cloud(tmp_path / "a.npz", True)
    assert cloud.normals is not None
    np.testing.assert_allclose(cloud.normals, NORMALS, rtol=1e-5)
    np.savez(tmp_path / "a.npz", a=NORMALS, b=POINTS)
    with pytest.raises(UserError, match="none of which is points"):
        read_cloud(tmp_path / "a.npz", False)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.xyz", text(" ", POINTS, NORMALS, comma=True), "taken as decimal commas"),
        ("a.xyz", text(" ", POINTS, np.abs(NORMALS)), "without a negative number"),
        ("a.xyz", text(" ", POINTS, NORMALS * np.arange(1, 21)[:, None]), "of lengths from 1 to 20"),
        ("a.xyz", text(" ", POINTS * [1, 1, 0.005], NORMALS), "almost all in a plane"),
        ("a.xyz", text(" ", POINTS, NORMALS), "found 20 points"),
    ],
)
def test_doubtful_clouds(tmp_path: Path, name: str, content: str, found: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.warns(DoubtfulMeaning, match=found):
        cloud = read_cloud(tmp_path / name, True)
    np.testing.assert_allclose(cloud.points[:, :2], POINTS[:, :2], rtol=1e-5)


def test_duplicates_are_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.concatenate([POINTS, POINTS[:5]]))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.npy", False).points, POINTS.astype(float))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        read_cloud(tmp_path / "a.npy", False)


@pytest.mark.parametrize(
    ("columns", "normals", "found"),
    [
        (np.zeros((0, 3)), False, "no point"),
        (np.full((4, 3), np.nan), False, "4 of 4 points with numbers that are not finite"),
        (np.ones((4, 3)), False, "all in one place"),
        (POINTS[:, :2], False, "array of the shape"),
        (np.pad(POINTS, ((0, 200), (0, 0))).T, False, "transpose it"),
        (POINTS[:3], False, "3 points, expected"),
        (np.concatenate([POINTS[:5]] * 9), False, r"5 points \(45 with duplicates\)"),
        (np.outer(np.arange(300.0), [1, 2, 3]) + 5, False, "all on a line"),
        (np.concatenate([np.outer(np.arange(300.0), [1, 2, 3]), [[0, 0, 9e4]]]), False, "all on a line"),
        (np.concatenate([POINTS] * 9) @ [[1, 0, 1], [0, 1, 1], [0, 0, 0.0]], False, "all in a plane"),
        (np.column_stack([np.arange(20), POINTS]), False, "a first column that counts"),
        (np.column_stack([POINTS, 255 * np.abs(NORMALS).round(1).round()]), True, "which look like colours"),
        (np.column_stack([POINTS, (0.5 + NORMALS / 4)]), True, "which look like colours"),
        (np.column_stack([POINTS, NORMALS[:, :1]]), True, "points without normals"),
        (np.column_stack([POINTS, NORMALS / 2, NORMALS / 2]), True, "9 columns, of which no three"),
        (np.column_stack([POINTS, NORMALS, NORMALS]), True, "9 columns, of which several three"),
        (POINTS, True, "points without normals"),
        (np.concatenate([POINTS, 0 * NORMALS], 1), True, "20 of 20 normals without length"),
    ],
)
def test_bad_clouds(tmp_path: Path, columns: np.ndarray, normals: bool, found: str) -> None:
    np.save(tmp_path / "a.npy", columns)
    with pytest.raises(UserError, match=found):
        read_cloud(tmp_path / "a.npy", normals)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        (
            "a.ply",
            "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nend_header\n1\n2\n",
            "columns called x, expected x, y and z",
        ),
        ("b.ply", header("ascii", 3) + "1 2 3 4 5 6 7 8\n", "1 of 3 rows of vertex"),
        ("c.ply", header("binary_little_endian") + "few bytes", "of 20 rows of vertex"),
        ("d.ply", header("ascii", 2).replace("format ascii", "format"), "the line 'format 1.0' in its header"),
        ("d.ply", "no header", "no PLY header"),
        ("e.xyz", "", "no point"),
        ("f.xyz", "1 2\n", r"array of the shape \(1, 2\)"),
        ("g.xyz", "# a\n1 2 4\n1 2 three\n", "line 3: '1 2 three': 'three' is no number"),
        ("h.csv", "1,2,3\n1,2\n", "line 2: '1,2': 2 numbers instead of 3"),
        ("h.csv", "x,y,z\n1,2,3\n1;2;3\n", "line 3: '1;2;3'"),
        ("i.csv", "a,b,c\n1,2,3\n", "columns called a, b, c, expected x, y and z"),
        ("j.csv", "x,y\n1,2,3\n", "line 2: 3 numbers below a header of 2 names"),
        ("k.pts", "3\n1 2 3\n4 5 6\n", "2 of 3 points, which its first line says"),
        ("l.off", "1 2 3", "ending in .off"),
        ("m.npy", "\x93NUM", "cannot be read"),
        ("n.npz", "PK", "cannot be read"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, found: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=found):
        read_cloud(tmp_path / name, False)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_cloud(tmp_path / "none.ply", False)
