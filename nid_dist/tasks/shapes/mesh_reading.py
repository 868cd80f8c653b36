"""Read triangle meshes: OBJ, PLY, OFF, STL, GLB; nothing in them is trusted."""

import warnings
from pathlib import Path

import numpy as np

from nid_dist.errors import UserError
from nid_dist.tasks.shapes.mesh import Mesh

EXTENSIONS = (".obj", ".ply", ".off", ".stl", ".glb")


def read_mesh(path: Path) -> Mesh:
    """Read a mesh of one of `EXTENSIONS`; the parts of a scene are joined, faces with more corners cut into triangles.

    Raises:
        UserError: a file that is none of these or damaged, no faces, corners that are not there or not numbers, or
            no extent.
    """
    import trimesh  # 0.3 s, which commands without meshes need not spend

    if path.suffix.lower() not in EXTENSIONS:
        raise _unfit(path, f"a file ending in {path.suffix or 'nothing'}", f"one of {', '.join(EXTENSIONS)}")
    if not path.is_file():
        raise _unfit(path, "no such file", "a mesh", "check the path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = trimesh.load(path, process=False, skip_materials=True, maintain_order=True)
        if isinstance(loaded, trimesh.Scene):
            loaded = loaded.to_mesh()
        vertices = np.array(getattr(loaded, "vertices", np.zeros((0, 3))), dtype=np.float64)
        faces = np.array(getattr(loaded, "faces", np.zeros((0, 3))), dtype=np.int64)
    except Exception as error:  # the readers of the formats raise whatever they stumble over
        reason = f"{type(error).__name__}: {error}"
        raise _unfit(path, f"a file that cannot be read ({reason[:200]})", "a complete mesh") from error
    mesh = _checked(path, vertices, faces)
    return mesh.part(mesh.areas > 0)


def _checked(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    if not faces.size:
        raise _unfit(path, "no faces", "triangles")
    if faces.ndim != 2 or faces.shape[1] != 3 or vertices.ndim != 2 or vertices.shape[1] != 3:
        raise _unfit(path, f"faces of the shape {faces.shape}", "triangles in space")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise _unfit(path, f"a face with corner {faces.max()} of {len(vertices)}", "corners that are there")
    used, inverse = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], inverse.reshape(-1, 3).astype(np.int64)
    bad = int((~np.isfinite(vertices)).any(1).sum())
    if bad:
        raise _unfit(path, f"{bad} corners that are not numbers", "finite coordinates")
    if not np.ptp(vertices, 0).max() > 0 or not np.isfinite(np.ptp(vertices, 0).max() ** 2):
        raise _unfit(path, "corners all in one place, or out of range", "a mesh with an extent")
    mesh = Mesh(np.ascontiguousarray(vertices), np.ascontiguousarray(faces))
    if not mesh.areas.sum() > 0:
        raise _unfit(path, "faces without area", "triangles")
    return mesh


def _unfit(path: Path, found: str, expected: str, hint: str = "repair it, or leave it out") -> UserError:
    return UserError(str(path), found=found, expected=expected, hint=hint)
