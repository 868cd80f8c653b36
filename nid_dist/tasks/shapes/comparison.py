"""Surfaces of held-out shapes from sparse clouds: the dictionary, a network per shape, an auto-decoder, a plain RBF."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from tqdm import tqdm

from nid_dist.baselines.config import load_baseline
from nid_dist.baselines.inr import Baseline
from nid_dist.comparison.base import Comparison, Request, Results, Trained
from nid_dist.comparison.dictionaries import trained
from nid_dist.config.section import PositiveInt
from nid_dist.errors import UserError
from nid_dist.evaluation.grids import picture_grid
from nid_dist.evaluation.report import Column, Table
from nid_dist.model import Model
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.tasks.shapes.auto_decoder import AutoDecoder, AutoDecoderConfig, train_auto_decoder
from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.meshing import Field as Values
from nid_dist.tasks.shapes.meshing import extract_surface
from nid_dist.tasks.shapes.metrics import compare_meshes, volumetric_iou
from nid_dist.tasks.shapes.networks import fit_oriented_points
from nid_dist.tasks.shapes.point_clouds import Cloud
from nid_dist.tasks.shapes.prepared import PreparedShapes
from nid_dist.tasks.shapes.rendering import VIEWS, render_mesh, render_points
from nid_dist.tasks.shapes.surfaces import FitOptions, evaluate_code, fit_cloud, init_code, measure_cloud
from nid_dist.tasks.shapes.task import ShapeTask

_OFFSET = 0.02  # of the RBF's points on either side of the surface
_VOLUME = 20_000  # points at which insides are compared
_SHOWN = 3  # shapes in the picture grid

_COLUMNS = [
    Column("points"),
    Column("method"),
    Column("Chamfer", "x 1000", ".1f"),
    Column("accuracy", "x 1000", ".1f"),
    Column("completeness", "x 1000", ".1f"),
    Column("Hausdorff", "x 1000", ".0f"),
    Column("normals", "", ".3f"),
    Column("F-score", "at 1 %", ".3f"),
    Column("IoU", "", ".3f"),
    Column("numbers", "per shape", ",.0f"),
    Column("fit", "s", ".3f"),
    Column("meshed", "of all", ".2f"),
]


class ShapeComparison(Comparison):
    """Surfaces from sparse clouds."""

    task: Literal["shapes"] = "shapes"
    run_dir: str = "runs/compare_shapes"
    dictionary: Trained
    counts: list[PositiveInt] = Field([100, 300, 1000, 3000], min_length=1, description="points of a cloud")
    limit: PositiveInt = Field(6, description="test shapes at most")
    normals: bool = Field(True, description="whether the clouds have normals")
    siren: str | None = Field("baselines/siren_shapes.yaml", description="a network per shape; null: none")
    siren_counts: list[PositiveInt] = Field([], description="points at which it is fitted; none said: all of `counts`")
    auto_decoder: AutoDecoderConfig | None = Field(None, description="DeepSDF; null: none")
    rbf: bool = Field(True, description="biharmonic splines on points and their offsets along the normals")
    rbf_points: PositiveInt = Field(1000, description="the most that it is solved for: its system is dense")
    resolution: PositiveInt = Field(64, description="cells along the cube, of the meshes")


@dataclass(frozen=True)
class Truth:
    """A shape that was held out.

    Args:
        name: of it.
        surface: points of it, with normals; a cloud is the first of them.
        points: in the cube, for the insides.
        inside: which of them are inside.
        mesh: the true surface.
    """

    name: str
    surface: Cloud
    points: np.ndarray
    inside: np.ndarray
    mesh: Mesh


@dataclass(frozen=True)
class Found:
    """What a method made of a cloud.

    Args:
        field: f, negative inside.
        seconds: to fit it.
        numbers: that represent this shape.
        slope: of f near the surface.
    """

    field: Values
    seconds: float
    numbers: int
    slope: float


Line = Callable[[Cloud], Found]


def compare_shapes(config: ShapeComparison, request: Request) -> Results:
    """Make the table and the picture grid.

    Args:
        config: the comparison.
        request: where pictures go; inputs are not read.

    Returns:
        The results.

    Raises:
        UserError: when something cannot be read or trained, or the dictionary was not trained on prepared shapes.
    """
    model, training = trained(config.dictionary, request, config.run_dir)
    task = ShapeTask(training)
    if not isinstance(task.prepared, PreparedShapes) or not task.shapes["test"]:
        raise UserError(
            "signals.path",
            found="no prepared shapes that were kept for test",
            expected="a folder of prepared shapes with a test split",
            hint="prepare shapes with --splits, and name the folder: --set dictionary.set=[signals.path=FOLDER]",
        )
    lines = _lines(config, request, model, task)
    rows: list[dict[str, Any]] = []
    pictures: dict[str, dict[str, Any]] = {}
    truths = list(held_out(task, config.limit))
    work = [(count, truth) for count in config.counts for truth in truths]
    for count, truth in tqdm(work, unit="cloud", disable=not sys.stderr.isatty()):
        cloud = sparse_cloud(truth, count, config.normals)
        row = {"points": (render_points(cloud.points, *VIEWS[0], 192), f"{count} points")}
        for method, line in lines.items():
            if not _takes_part(config, method, count):
                continue
            found = line(cloud)
            mesh = extract_surface(found.field, config.resolution, found.slope)
            rows.append({"points": count, "shape": truth.name, "method": method, **figures(mesh, found, truth)})
            chamfer = rows[-1]["chamfer"]
            caption = "no surface" if chamfer is None else f"{1e3 * chamfer:.1f}"
            row[method] = (render_mesh(mesh, *VIEWS[0], 192), caption)
        if truth in truths[:_SHOWN]:
            pictures[f"{truth.name.split('/')[-1][:24]}, {count}"] = row
    averaged = means(rows)
    files = {}
    for count in config.counts:
        chosen = {name: row for name, row in pictures.items() if name.endswith(f", {count}")}
        picture_grid(
            request.out / f"shapes-{count}.png", chosen, title=f"{count} points, shapes held out; 1000 x Chamfer"
        )
        files[f"shapes-{count}.png"] = "clouds and surfaces side by side"
    return Results(table(averaged), rows, {"means": averaged}, files)


def held_out(task: ShapeTask, limit: int) -> Iterator[Truth]:
    """Test shapes, from what was prepared of them.

    Args:
        task: of prepared shapes.
        limit: at most.

    Yields:
        The truths.
    """
    assert isinstance(task.prepared, PreparedShapes)
    for index in task.shapes["test"][:limit]:
        name = task.prepared.names[index]
        surface = task.prepared.surface(index, None, np.random.default_rng(0))
        points, distances = task.prepared.sample(index, _VOLUME, 0.0, np.random.default_rng(0))
        yield Truth(
            name,
            Cloud(*(each.astype(np.float64) for each in surface)),
            points,
            distances < 0,
            task.prepared.mesh(index),
        )


def sparse_cloud(truth: Truth, count: int, normals: bool) -> Cloud:
    """The first points of a shape's surface, which are in random order."""
    known = truth.surface.normals if normals else None
    return Cloud(truth.surface.points[:count], None if known is None else known[:count])


def figures(mesh: Mesh | None, found: Found, truth: Truth) -> dict[str, Any]:
    """What a method's surface is like; no metrics where there is none."""
    facts = {"seconds": found.seconds, "numbers": found.numbers, "meshed": float(mesh is not None)}
    if mesh is None:
        names = ("chamfer", "accuracy", "completeness", "hausdorff", "normals", "f_score", "iou")
        return dict.fromkeys(names) | facts
    metrics = compare_meshes(mesh, truth.mesh, np.random.default_rng(0)).as_dict()
    inside = found.field(truth.points) < 0
    return metrics | {"iou": volumetric_iou(inside, truth.inside)} | facts


def by_dictionary(model: Model, how: FitOptions | None = None) -> Line:
    """The dictionary's robust fit; its time is that of the second of two, which imports and allocates no more."""

    def line(cloud: Cloud) -> Found:
        fit_cloud(model, cloud, how)
        fit = fit_cloud(model, cloud, how)
        numbers = 2 * int((fit.code.values != 0).sum()) + 1
        slope = 1 / model.config.signals_of(ShapesSection).truncation
        return Found(lambda points: evaluate_code(model, fit.code, points), fit.seconds, numbers, slope)

    return line


def by_gate(model: Model) -> Line:
    """The gate's own code, timed in the same way."""

    def line(cloud: Cloud) -> Found:
        init_code(model, cloud)
        begin = time.perf_counter()
        code = init_code(model, cloud)
        seconds = time.perf_counter() - begin
        numbers = 2 * int((code.values != 0).sum()) + 1
        slope = 1 / model.config.signals_of(ShapesSection).truncation
        return Found(lambda points: evaluate_code(model, code, points), seconds, numbers, slope)

    return line


def by_network(baseline: Baseline) -> Line:
    """A network per shape."""

    def line(cloud: Cloud) -> Found:
        points, normals = (
            None if each is None else torch.from_numpy(each).float() for each in (cloud.points, cloud.normals)
        )
        assert points is not None
        fitted = fit_oriented_points(baseline, points, normals)

        def field(at: np.ndarray) -> np.ndarray:
            values: np.ndarray = fitted.render(torch.from_numpy(np.ascontiguousarray(at)).float())[:, 0].numpy()
            return values

        return Found(field, fitted.seconds, fitted.parameters, 1.0)

    return line


def by_auto_decoder(model: AutoDecoder, truncation: float) -> Line:
    """A latent vector per shape, fitted to what the dictionary is fitted to."""

    def line(cloud: Cloud) -> Found:
        begin = time.perf_counter()
        measured = measure_cloud(cloud, truncation, FitOptions())
        coords, values, weights = (
            torch.from_numpy(part).float() for part in (measured.coords, measured.values, measured.weights)
        )
        latent, _ = model.fit(coords, values, weights)
        seconds = time.perf_counter() - begin

        def field(at: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                found = model(latent, torch.from_numpy(np.ascontiguousarray(at)).float()[None])
            values: np.ndarray = found[0, :, 0].numpy()
            return values

        return Found(field, seconds, latent.numel(), 1 / truncation)

    return line


def by_rbf(cloud: Cloud) -> Found:
    """Biharmonic splines through the points (0) and their offsets along the normals (Carr et al. 2001)."""
    from scipy.interpolate import RBFInterpolator

    assert cloud.normals is not None
    begin = time.perf_counter()
    sides = [cloud.points + side * _OFFSET * cloud.normals for side in (0, 1, -1)]
    values = np.repeat([0.0, _OFFSET, -_OFFSET], len(cloud.points))
    spline = RBFInterpolator(np.concatenate(sides), values, kernel="linear", degree=0, smoothing=1e-3)
    seconds = time.perf_counter() - begin
    return Found(lambda at: spline(at), seconds, 4 * 3 * len(cloud.points), 1.0)


def means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the shapes, by number of points and method; of the metrics, over those that have a surface."""
    found = []
    for points, method in dict.fromkeys((row["points"], row["method"]) for row in rows):
        own = [row for row in rows if (row["points"], row["method"]) == (points, method)]
        mean: dict[str, Any] = {"points": points, "method": method, "shapes": len(own)}
        for key in own[0].keys() - {"points", "method", "shape"}:
            values = [row[key] for row in own if row[key] is not None]
            mean[key] = float(np.mean(values)) if values else None
        found.append(mean)
    return found


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Mean rows as a table."""
    scaled = ("chamfer", "accuracy", "completeness", "hausdorff")
    keys = ("normals", "f_score", "iou", "numbers", "seconds", "meshed")
    cells = [
        [
            row["points"],
            row["method"],
            *(None if row[key] is None else 1e3 * row[key] for key in scaled),
            *(row[key] for key in keys),
        ]
        for row in rows
    ]
    return Table(_COLUMNS, cells)


def _lines(config: ShapeComparison, request: Request, model: Model, task: ShapeTask) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    if model.gate_reads_signals:
        lines["NID, init"] = by_gate(model)
    lines["NID, solved"] = by_dictionary(model)
    if config.siren is not None:
        lines["SIREN"] = by_network(Baseline(load_baseline(request.beside(config.siren))))
    if config.auto_decoder is not None:
        world = World(Topology(1))
        sized = task.config.model_copy(deep=True)
        sized.training.batch = config.auto_decoder.batch
        sized.signals_of(ShapesSection).augment = False  # a latent vector for each shape does not follow its changes
        own = ShapeTask(sized)

        def batch(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            drawn = own.batch(step, 0, world)
            own.prefetch(step + 1, world)
            return drawn.ids, drawn.samples.coords, drawn.samples.values

        kept = Path(config.run_dir) / "auto_decoder.safetensors"
        decoder = train_auto_decoder(config.auto_decoder, len(task.signals), batch, kept)
        lines["auto-decoder"] = by_auto_decoder(decoder, model.config.signals_of(ShapesSection).truncation)
    if config.rbf and config.normals:
        lines["RBF"] = by_rbf
    return lines


def _takes_part(config: ShapeComparison, method: str, count: int) -> bool:
    if method == "SIREN":
        return count in (config.siren_counts or config.counts)
    return method != "RBF" or count <= config.rbf_points
