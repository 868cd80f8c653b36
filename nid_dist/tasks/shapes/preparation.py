"""From a mesh to a prepared shape: into the cube, samples of its signed distance, and whether it can be trusted."""

import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.data.splits import stable_fraction
from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.tasks.shapes.mesh import Mesh, Placement
from nid_dist.tasks.shapes.mesh_distance import MeshDistance, Sides
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.shapes.prepared import file_digest, read_facts, shape_file, write_shape
from nid_dist.tasks.shapes.shapenet import MeshFile
from nid_dist.tasks.shapes.signals import SPREADS

_FLIPPED = 0.1  # of the surface, which may be inside out
_INSIDE_OUT = 0.5  # of the surface: then the whole mesh is turned


@dataclass(frozen=True)
class Settings:
    """What all shapes of a folder have in common."""

    samples: int = 100_000  # points with distances
    near: float = 0.8  # share of them that lies near the surface
    surface: int = 10_000  # points on the surface, with normals
    grid: int = 0  # side of the grid of distances; 0: none
    ambiguous: float = 0.6  # the most of the surface, as a share, that may bound nothing
    seed: int = 0  # of all points


@dataclass(frozen=True)
class PreparationResult:
    """What became of a mesh."""

    name: str  # of the shape
    facts: dict[str, Any] | None = None  # for the index; None: it was left out
    reason: str = ""  # why
    kept: bool = False  # whether an earlier preparation's file was good enough
    doubts: tuple[str, ...] = ()  # what its file hardly means, without its name


def prepare_shape(file: MeshFile, folder: Path, settings: Settings) -> PreparationResult:
    """Prepare a shape, unless its file is there: the facts for the index, or the reason why the mesh was left out.

    Raises:
        UserError: when the result cannot be written.
    """
    try:
        source = file_digest(file.path)
    except OSError as error:
        return PreparationResult(file.name, reason=f"{file.path}: found that reading failed ({error})")
    wanted = {"source_sha256": source, "settings": asdict(settings)}
    facts = read_facts(folder, file.name)
    if facts is not None and all(facts.get(key) == value for key, value in wanted.items()):
        digest = file_digest(shape_file(folder, file.name))
        return PreparationResult(file.name, _for_index(facts, digest, file), kept=True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DoubtfulMeaning)
            tensors, found = sample_mesh(read_mesh(file.path), settings, file.name)
    except UserError as error:
        return PreparationResult(file.name, reason=str(error))
    doubts = [str(each.message) for each in caught if issubclass(each.category, DoubtfulMeaning)]
    facts = {"name": file.name, **found, **wanted}
    return PreparationResult(
        file.name,
        _for_index(facts, write_shape(folder, file.name, tensors, facts), file),
        doubts=tuple(each.removeprefix(f"{file.path}: ") for each in doubts),
    )


def sample_mesh(mesh: Mesh, settings: Settings, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Sample a mesh's signed distance, at points that depend on the seed and the shape's name.

    Returns:
        The tensors of a prepared shape, and its facts: placement, faces, what these bound, whether they are closed, and
        whether all of them looked inwards and were turned.

    Raises:
        UserError: for a mesh that cannot be trusted.
    """
    # One thread for each process that prepares: libigl would take all cores in each.
    os.environ.setdefault("IGL_NUM_THREADS", "1")
    generator = np.random.default_rng([settings.seed, int(stable_fraction(name) * 2**53)])
    placement = Placement.around(mesh.vertices)
    mesh = Mesh(np.ascontiguousarray(placement.to_cube(mesh.vertices)), mesh.faces)
    field = MeshDistance(mesh, generator)
    turned = field.sides.flipped > _INSIDE_OUT
    if turned:
        mesh = Mesh(mesh.vertices, np.ascontiguousarray(mesh.faces[:, ::-1]))
        field = MeshDistance(mesh, generator)
    _check(field.sides, settings, name)
    close = round(settings.near * settings.samples)
    drawn = {
        "near": field.near(close, SPREADS, generator),
        "uniform": field.uniform(settings.samples - close, generator),
    }
    tensors: dict[str, np.ndarray] = {}
    for kind, (points, inside) in drawn.items():
        distances, gradients = field.nearest(points, inside)
        tensors |= {
            kind: points.astype(np.float32),
            f"{kind}_distances": distances.astype(np.float32),
            f"{kind}_gradients": gradients.astype(np.float16),
        }
    on = field.sides.surface
    chosen = np.flatnonzero(on)[: settings.surface]
    tensors["surface"] = field.sides.points[chosen].astype(np.float32)
    tensors["normals"] = field.sides.normals[chosen].astype(np.float32)
    # What bounds the shape, to compare with: exact where points would only be close.
    used, faces = np.unique(field.surface.faces, return_inverse=True)
    tensors["vertices"] = field.surface.vertices[used].astype(np.float32)
    tensors["faces"] = faces.reshape(-1, 3).astype(np.int32)
    if settings.grid:
        cells = coordinate_grid((settings.grid,) * 3).double().numpy()
        tensors["grid"] = field.distance(cells).reshape((settings.grid,) * 3).astype(np.float16)
    facts = {"centre": list(placement.centre), "scale": placement.scale, "faces": len(mesh.faces)}
    facts |= {"closed": mesh.is_closed, "turned": turned}
    return tensors, facts | {"inner": round(field.sides.inner, 4), "open": round(field.sides.open, 4)}


def _check(sides: Sides, settings: Settings, name: str) -> None:
    """Refuse what has no inside, or one that cannot be told."""

    def unfit(found: str, expected: str, hint: str) -> UserError:
        return UserError(name, found=found, expected=expected, hint=hint)

    if sides.flipped > _FLIPPED:
        raise unfit(f"{sides.flipped:.0%} of the surface inside out (flipped faces)", "normals outwards", "flip them")
    if sides.open > settings.ambiguous:
        raise unfit(
            f"{sides.open:.0%} of the surface with nothing behind it (ambiguous winding numbers)",
            f"at most {settings.ambiguous:.0%}",
            "close the mesh, give its sheets a thickness, or raise ambiguous",
        )
    if sides.surface.mean() < 0.01:
        raise unfit("no surface that bounds an inside", "a solid", "repair the mesh")


def _for_index(facts: dict[str, Any], digest: str, file: MeshFile) -> dict[str, Any]:
    listed = {key: value for key, value in facts.items() if key not in ("name", "settings")}
    return {**listed, "sha256": digest, "split": file.split}
