"""`shapes`: preparation, surfaces from 300 points against a network per shape, and meshing at 256^3."""

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
_FACES = 5000  # of the meshes whose preparation is timed
_COLUMNS = [Column("figure"), Column("value", "", ".4g"), Column("expected")]


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Measure.

    The dictionary is that of `configs/compare_shapes.yaml`, trained where it has not been; its shapes are the chairs of
    the folder that NID_DATA names, or procedural ones where it names none.
    """
    with tempfile.TemporaryDirectory() as folder:
        rate = preparation_rate(Path(folder), 4 if quick else 24, 2000 if quick else 100_000)
    with _comparison(quick) as config:
        means = compare(config, CONFIG).report.facts["means"]
        seconds = mesh_seconds(config, 64 if quick else 256)
    ours, theirs = (next(row for row in means if row["method"] == name) for name in ("NID, solved", "SIREN"))
    figures = {
        "chamfer_300": ours["chamfer"],
        "chamfer_siren_300": theirs["chamfer"],
        "chamfer_ratio_siren_300": _ratio(ours["chamfer"], theirs["chamfer"]),
        "seconds_300": ours["seconds"],
        "seconds_siren_300": theirs["seconds"],
        "time_ratio_siren_300": theirs["seconds"] / ours["seconds"],
        "shapes_per_minute": rate,
        "mesh256_seconds": seconds,
    }
    expected = {
        "chamfer_ratio_siren_300": "< 1",
        "time_ratio_siren_300": ">= 100",
        "shapes_per_minute": ">= 60",
        "mesh256_seconds": "<= 10",
    }
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
def _comparison(quick: bool) -> Iterator[ShapeComparison]:
    """The comparison at 300 points, its shapes prepared."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = [f"run_dir={folder}/runs", "limit=1", "resolution=32"] if quick else []
        config = load_comparison(CONFIG, ["counts=[300]", "rbf=false", "auto_decoder=null", *tiny])
        assert isinstance(config, ShapeComparison)
        prepared = Path(config.run_dir) / "prepared"
        if not (prepared / INDEX).exists():
            _prepare(prepared, Path(folder), quick)
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


def _prepare(prepared: Path, folder: Path, quick: bool) -> None:
    data = os.environ.get("NID_DATA")
    if data and not quick:
        root = Path(data) / "shapenet"
        files = find_meshes(root, "shapenet-v2", ["chair"], root / "splits.json")
    else:
        write_furniture(folder / "furniture", 8 if quick else 48, ["chair"], 0, "shapenet-v2")
        files = find_meshes(folder / "furniture", "shapenet-v2", [], folder / "furniture" / "splits.json")
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
