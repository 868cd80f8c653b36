"""Write triangle meshes: PLY, OBJ, GLB, OFF, STL by the file's ending; whole or not at all."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.files import replacing
from nid_dist.tasks.shapes.mesh import Mesh


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Write a mesh of at least one face, in the format that the path's ending says.

    Raises:
        UserError: when it cannot be written.
    """
    import trimesh

    kind = path.suffix.lower().lstrip(".")
    made = trimesh.Trimesh(np.asarray(mesh.vertices), np.asarray(mesh.faces), process=False)
    # Text has so many digits behind the point, whatever the mesh's units: nine of the numbers themselves count.
    digits = 9 - math.floor(math.log10(np.abs(mesh.vertices).max(initial=1e-30) or 1.0))
    options: dict[str, Any] = {"digits": min(max(digits, 0), 300)} if kind in ("obj", "off") else {}
    data: Any = made.export(file_type=kind, **options)
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
