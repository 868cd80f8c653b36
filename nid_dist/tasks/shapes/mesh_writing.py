"""Write triangle meshes: PLY, OBJ, GLB, OFF, STL by the file's ending; whole or not at all.

Nothing of a shape is lost that is tiny, or far from the origin: text has all digits, PLY has double precision where
single would round, and GLB, which has no other, is about the origin and moved by its node. STL can do neither.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nid_dist.errors import doubt
from nid_dist.files import replacing
from nid_dist.tasks.shapes.mesh import Mesh

_ROUNDING = 1e-4  # of the longest side, which single precision may move a corner by


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Write a mesh of at least one face, in the format that the path's ending says.

    Raises:
        UserError: when it cannot be written.

    Warns:
        DoubtfulMeaning: of STL, that it rounds the shape.
    """
    writer = _WRITERS[path.suffix.lower()]
    data = writer(mesh)
    if path.suffix.lower() == ".stl" and _is_rounded(mesh):
        doubt(
            str(path),
            found="a shape far from the origin, in a format of single precision",
            taken_as="it can be written there",
            hint="choose ply",
        )
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _is_rounded(mesh: Mesh) -> bool:
    """Whether single precision would move corners visibly."""
    largest = np.float64(np.abs(mesh.vertices).max())
    return bool(largest * np.finfo(np.float32).eps > _ROUNDING * np.ptp(mesh.vertices, 0).max())


def _ply(mesh: Mesh) -> bytes:
    kind, word = ("<f8", "double") if _is_rounded(mesh) else ("<f4", "float")
    places = "".join(f"property {word} {axis}\n" for axis in "xyz")
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(mesh.vertices)}\n{places}"
    header += f"element face {len(mesh.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    faces = np.zeros(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    return header.encode() + mesh.vertices.astype(kind).tobytes() + faces.tobytes()


def _places(mesh: Mesh, before: str) -> list[str]:
    return [before + " ".join(map(repr, row)) for row in mesh.vertices.tolist()]


def _obj(mesh: Mesh) -> bytes:
    faces = [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    return "\n".join([*_places(mesh, "v "), *faces, ""]).encode()


def _off(mesh: Mesh) -> bytes:
    faces = [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    return "\n".join(["OFF", f"{len(mesh.vertices)} {len(faces)} 0", *_places(mesh, ""), *faces, ""]).encode()


def _glb(mesh: Mesh) -> bytes:
    import trimesh

    middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2 if _is_rounded(mesh) else np.zeros(3)
    made = trimesh.Trimesh(mesh.vertices - middle, mesh.faces, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(made, transform=trimesh.transformations.translation_matrix(middle))
    return bytes(scene.export(file_type="glb"))


def _stl(mesh: Mesh) -> bytes:
    import trimesh

    return bytes(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(file_type="stl"))  # type: ignore[arg-type]


_WRITERS: dict[str, Callable[[Mesh], bytes]] = {".ply": _ply, ".obj": _obj, ".off": _off, ".glb": _glb, ".stl": _stl}
