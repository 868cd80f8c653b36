"""Every format gives the same mesh, and what is wrong with a file is said."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from nid_dist.errors import UserError
from nid_dist.tasks.shapes.furniture import solid_mesh
from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.mesh_reading import EXTENSIONS, read_mesh
from nid_dist.tasks.shapes.mesh_writing import write_mesh
from nid_dist.tasks.shapes.signals import ProceduralShapes

TABLE = solid_mesh(ProceduralShapes(1, ["table"], 0).solid(0))


@pytest.mark.parametrize("ending", EXTENSIONS)
def test_formats(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"table{ending}"
    write_mesh(path, TABLE)
    mesh = read_mesh(path)
    assert len(mesh.faces) == len(TABLE.faces)
    np.testing.assert_allclose(mesh.areas.sum(), TABLE.areas.sum(), rtol=1e-5)
    np.testing.assert_allclose(mesh.corners.max((0, 1)), TABLE.corners.max((0, 1)), atol=1e-5)


@pytest.mark.parametrize("ending", [".obj", ".ply", ".off", ".glb"])
@pytest.mark.parametrize(("scale", "middle"), [(1e-9, 0.0), (1.0, 4e6), (1e9, 0.0)])
def test_tiny_huge_and_far_meshes_keep_their_shape(tmp_path: Path, ending: str, scale: float, middle: float) -> None:
    path = tmp_path / f"table{ending}"
    write_mesh(path, Mesh(TABLE.vertices * scale + [middle, -middle, middle], TABLE.faces))
    found = (read_mesh(path).vertices - [middle, -middle, middle]) / scale
    np.testing.assert_allclose(found.min(0), TABLE.vertices.min(0), atol=1e-6)
    np.testing.assert_allclose(found.max(0), TABLE.vertices.max(0), atol=1e-6)
    loaded = trimesh.load_mesh(path, process=False)  # and so does another reader
    assert loaded.area == pytest.approx(TABLE.areas.sum() * scale**2, rel=1e-4)


def test_quads_groups_and_materials_of_obj(tmp_path: Path) -> None:
    path = tmp_path / "quad.obj"
    lines = ["mtllib gone.mtl", "v 0 0 0", "v 1 0 0", "v 1 1 0", "v 0 1 0", "v 9 9 9", "g one", "usemtl red"]
    path.write_text("\n".join([*lines, "f 1/1/1 2/2/2 3/3/3 4/4/4", ""]).replace("/1/1", "").replace("/2/2", ""))
    path.write_text("\n".join([*lines, "f 1 2 3 4", ""]))
    mesh = read_mesh(path)
    # The corner that no face uses is gone.
    assert len(mesh.faces) == 2 and len(mesh.vertices) == 4 and mesh.areas.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.obj", "", "no faces"),
        ("b.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no faces"),
        ("c.obj", "v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "1 corners that are not numbers"),
        ("d.obj", "v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "all in one place"),
        ("e.obj", "v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "faces without area"),
        ("f.ply", "ply\nformat ascii 1.0\nelement vertex 3\n", "cannot be read"),
        ("g.glb", "glTF nothing", "cannot be read"),
        ("h.txt", "v 0 0 0", "ending in .txt"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: str, found: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=found):
        read_mesh(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_mesh(tmp_path / "none.obj")
