"""Clouds in every format, with further properties, and everything that can be wrong with them."""

from pathlib import Path

import numpy as np
import pytest

from nid_dist.errors import UserError
from nid_dist.tasks.shapes.point_clouds import read_cloud

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
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nend_header\n1\n2\n", "cannot be read"),
        ("b.ply", header("ascii", 3) + "1 2 3 4 5 6 7 8\n", "1 of 3 vertices"),
        ("c.ply", header("binary_little_endian") + "few bytes", "of 20 vertices"),
        ("d.ply", "no header", "no PLY header"),
        ("e.xyz", "", "no point"),
        ("f.xyz", "1 2\n", "fewer than three"),
        ("g.xyz", "1 2 three\n", "cannot be read"),
        ("h.csv", "1,2,3", "ending in .csv"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, found: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=found):
        read_cloud(tmp_path / name, False)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_cloud(tmp_path / "none.ply", False)
