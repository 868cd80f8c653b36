"""Read triangle meshes: OBJ, PLY, OFF, STL, GLB; nothing in them is trusted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nid_dist.errors import UserError, doubt
from nid_dist.files import expanded
from nid_dist.tasks.shapes.formats.glb import read_glb
from nid_dist.tasks.shapes.formats.obj import read_obj
from nid_dist.tasks.shapes.formats.off import read_off
from nid_dist.tasks.shapes.formats.ply import read_ply
from nid_dist.tasks.shapes.formats.stl import read_stl
from nid_dist.tasks.shapes.mesh import Mesh

_READERS: dict[str, Callable[[Path], tuple[np.ndarray, np.ndarray]]] = {
    ".obj": read_obj,
    ".ply": read_ply,
    ".off": read_off,
    ".stl": read_stl,
    ".glb": read_glb,
}
EXTENSIONS = tuple(_READERS)
_ROUNDED = 50  # corners; fewer may well have coordinates that are whole numbers
_COARSE = 1 / 2048  # of the longest side


def read_mesh(path: str | Path) -> Mesh:
    """Read a mesh of one of `EXTENSIONS`; the parts of a scene are joined, faces with more corners cut into triangles.

    Raises:
        UserError: a file that is none of these or damaged, no faces, corners that are not there or not numbers, or
            no extent.
    """
    path = expanded(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise _unfit(path, f"a file ending in {path.suffix or 'nothing'}", f"one of {', '.join(EXTENSIONS)}")
    if not path.is_file():
        raise _unfit(path, "no such file", "a mesh", "check the path")
    try:
        vertices, faces = reader(path)
    except (OSError, ValueError, OverflowError) as error:
        raise _unfit(path, f"a file that cannot be read ({str(error)[:200]})", "a complete mesh") from error
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:  # what a document lacks
        reason = f"{type(error).__name__}: {error}"
        raise _unfit(path, f"a file that cannot be read ({reason[:200]})", "a complete mesh") from error
    return _checked(path, vertices, faces)


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
    extent = float(np.ptp(vertices, 0).max())
    if not extent > 0 or not np.isfinite(extent**2):
        raise _unfit(path, "corners all in one place, or out of range", "a mesh with an extent")
    # Areas of something tiny would vanish.
    area = Mesh((vertices - vertices.mean(0)) / extent, faces).areas
    if not area.sum() > 0:
        raise _unfit(path, "faces without area", "triangles")
    if len(vertices) >= _ROUNDED and _is_rounded(vertices, extent):
        doubt(
            str(path),
            found="coordinates far from the origin in single precision, which rounds its shape",
            taken_as="what is left of it",
            hint="move it to the origin before it is written, or write double precision",
        )
    return Mesh(np.ascontiguousarray(vertices), np.ascontiguousarray(faces[area > 0]))


def _is_rounded(vertices: Float[np.ndarray, "V 3"], extent: float) -> bool:
    """Whether all coordinates are numbers of single precision, whose steps are coarse for the mesh."""
    with np.errstate(over="ignore"):
        single = vertices.astype(np.float32)
    return bool((single == vertices).all() and float(np.spacing(np.abs(single).max())) > _COARSE * extent)


def _unfit(path: Path, found: str, expected: str, hint: str = "repair it, or leave it out") -> UserError:
    return UserError(str(path), found=found, expected=expected, hint=hint)
