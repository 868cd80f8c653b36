"""Write triangle meshes: PLY, OBJ, GLB, OFF, STL by the file's ending; whole or not at all."""

from pathlib import Path

import numpy as np

from nid_dist.files import replacing
from nid_dist.tasks.shapes.mesh import Mesh


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Write a mesh of at least one face, in the format that the path's ending says.

    Raises:
        UserError: when it cannot be written.
    """
    import trimesh

    made = trimesh.Trimesh(np.asarray(mesh.vertices), np.asarray(mesh.faces), process=False)
    data: str | bytes = made.export(file_type=path.suffix.lower().lstrip("."))  # type: ignore[assignment]
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
