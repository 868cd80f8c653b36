"""`shapes`: preparation, meshing at 256^3, and surfaces from few and from many points beside other methods'."""

import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.benchmarks.harness import QUIET, compare
from nid_dist.benchmarks.packages import furniture
from nid_dist.comparison.dictionaries import trained
from nid_dist.comparison.factory import load_comparison
from nid_dist.config import find_config
from nid_dist.evaluation.measuring import timed
from nid_dist.evaluation.report import Column, Table
from nid_dist.parallel.pool import open_pool
from nid_dist.tasks.shapes.comparison import ShapeComparison, held_out
from nid_dist.tasks.shapes.furniture import solid_mesh, write_furniture
from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.mesh_writing import write_mesh
from nid_dist.tasks.shapes.preparation import Settings, prepare_shape
from nid_dist.tasks.shapes.prepared import INDEX, write_index
from nid_dist.tasks.shapes.shapenet import MeshFile, find_meshes
from nid_dist.tasks.shapes.signals import ProceduralShapes
from nid_dist.tasks.shapes.surfaces import fit_cloud, mesh_code
from nid_dist.tasks.shapes.task import ShapeTask

CONFIG = find_config("compare_shapes")
_MOST = {100: 0.021, 300: 0.013, 1000: 0.0065, 3000: 0.004}  # Chamfer distance of chairs, by points
_FACES = 5000  # of the meshes whose preparation is timed
_COLUMNS = [Column("figure"), Column("value", "", ".4g"), Column("expected")]


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Measure.

    The dictionaries are those of `compare_shapes.yaml` and `compare_furniture.yaml`, trained where they have not been.
    The shapes of the first are the chairs of the folder that NID_DATA names, or procedural ones where it names none; of
    the second, tables and sofas of a package, which is fetched.
    """
    with tempfile.TemporaryDirectory() as folder:
        rate = preparation_rate(Path(folder), 6 if quick else 24, 2000 if quick else 100_000)
    figures: dict[str, Any] = {}
    expected = {"shapes_per_minute": ">= 60", "mesh256_seconds": "<= 10"}
    for name in ["compare_shapes"] if quick else ["compare_shapes", "compare_furniture"]:
        with _comparison(name, quick) as config:
            means = compare(config, find_config(name)).report.facts["means"]
            if not figures:
                figures = {"shapes_per_minute": rate, "mesh256_seconds": mesh_seconds(config, 64 if quick else 256)}
        kind = "" if name == "compare_shapes" else "furniture_"
        for count, most in _MOST.items():
            own = {row["method"]: row for row in means if row["points"] == count}
            if not own:
                continue
            ours = own.pop("NID, solved")
            own.pop("NID, init", None)
            others = {method: row["chamfer"] for method, row in own.items() if row["chamfer"] is not None}
            best = min(others, key=others.__getitem__, default=None)
            figures |= {
                f"{kind}chamfer_{count}": ours["chamfer"],
                f"{kind}best_other_{count}": best,
                f"{kind}chamfer_ratio_best_other_{count}": _ratio(ours["chamfer"], others[best] if best else None),
                f"{kind}seconds_{count}": ours["seconds"],
            }
            expected[f"{kind}chamfer_ratio_best_other_{count}"] = "< 1"
            if not kind:
                expected[f"chamfer_{count}"] = f"<= {most}"
    return figures, Table(_COLUMNS, [[name, value, expected.get(name, "")] for name, value in figures.items()])


def preparation_rate(folder: Path, count: int, samples: int) -> float:
    """Shapes a minute on all cores, of procedural meshes whose faces are cut until there are 5000 at least.

    Each is sampled at so many points; reading and writing is included, the start of the processes not.
    """
    shapes = ProceduralShapes(count, ["chair", "table", "lamp"], 0)
    files = []
    for index, name in enumerate(shapes.names):
        path = folder / "meshes" / f"{name}.obj"
        write_mesh(path, cut_faces(solid_mesh(shapes.solid(index)), _FACES))
        files.append(MeshFile(name, path))
    work = partial(prepare_shape, folder=folder / "prepared", settings=Settings(samples=samples))
    with open_pool() as pool:
        assert pool is not None
        list(pool.map(work, files[: 2 * pool.workers]))  # every process has started and imported what it needs
        outcomes, seconds = timed(lambda: list(pool.map(work, files[2 * pool.workers :])))
    assert all(outcome.facts is not None and not outcome.kept for outcome in outcomes)
    return 60 * len(outcomes) / seconds


def cut_faces(mesh: Mesh, least: int) -> Mesh:
    """The same surface in more faces: the longest edges are halved until there are so many."""
    vertices, faces = mesh.vertices, mesh.faces
    while len(faces) < least:
        corners = vertices[faces]
        length = np.linalg.norm(corners - np.roll(corners, -1, 1), axis=2)
        chosen = np.argsort(length.max(1))[len(faces) - min(len(faces), least - len(faces)) :]
        edge = length[chosen].argmax(1)
        first, second, third = (faces[chosen, (edge + step) % 3] for step in range(3))
        middle = len(vertices) + np.arange(len(chosen))
        vertices = np.concatenate([vertices, (vertices[first] + vertices[second]) / 2])
        halves = [np.stack([first, middle, third], 1), np.stack([middle, second, third], 1)]
        faces = np.concatenate([np.delete(faces, chosen, 0), *halves])
    return Mesh(vertices, faces)


def mesh_seconds(config: ShapeComparison, side: int) -> float:
    """Median seconds of meshing a test shape that was fitted to 1000 points."""
    model, training = trained(config.dictionary, CONFIG, config.run_dir)
    codes = [fit_cloud(model, truth.cloud(1000, True)).code for truth in held_out(ShapeTask(training), 3)]
    return statistics.median(timed(partial(mesh_code, model, code, side), model.device)[1] for code in codes)


@contextmanager
def _comparison(name: str, quick: bool) -> Iterator[ShapeComparison]:
    """A comparison, its shapes prepared; a quick one at 300 points."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = ["counts=[300]", "rbf=false", "auto_decoder=null", "limit=1", "resolution=32", f"run_dir={folder}/runs"]
        config = load_comparison(find_config(name), tiny if quick else [])
        assert isinstance(config, ShapeComparison)
        prepared = Path(config.run_dir) / "prepared"
        if not (prepared / INDEX).exists():
            _prepare(prepared, _meshes(name, Path(folder), quick), quick)
        config.dictionary.set.append(f"signals.path={prepared}")
        if quick:
            config.dictionary.set += [
                "training.steps=3",
                "training.batch=4",
                "dictionary.width=32",
                "coding.prior_signals=8",
                "training.coordinates=256",
                *QUIET,
            ]
        yield config


def _meshes(name: str, folder: Path, quick: bool) -> list[MeshFile]:
    data = os.environ.get("NID_DATA")
    if name == "compare_furniture":
        return find_meshes(furniture(), "flat", [], furniture() / "splits.json")
    if data and not quick:
        root = Path(data) / "shapenet"
        return find_meshes(root, "shapenet-v2", ["chair"], root / "splits.json")
    write_furniture(folder / "furniture", 8 if quick else 48, ["chair"], 0, "shapenet-v2")
    return find_meshes(folder / "furniture", "shapenet-v2", [], folder / "furniture" / "splits.json")


def _prepare(prepared: Path, files: list[MeshFile], quick: bool) -> None:
    settings = Settings(samples=4000, grid=8) if quick else Settings(grid=32)
    with open_pool(1 if quick else None) as pool:
        assert pool is not None
        outcomes = list(pool.map(partial(prepare_shape, folder=prepared, settings=settings), files))
    shapes = {each.name: each.facts for each in sorted(outcomes, key=lambda each: each.name) if each.facts}
    write_index(prepared, vars(settings), shapes, {each.name: each.reason for each in outcomes if not each.facts})


def _ratio(ours: float | None, theirs: float | None) -> float:
    """Where only one has no surface, it has lost."""
    if theirs is None:
        return 0.0 if ours is not None else 1.0
    return float("inf") if ours is None else ours / theirs
