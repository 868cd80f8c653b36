"""Surfaces of held-out shapes from sparse clouds: the dictionary, networks, splines, screened Poisson."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from nid_dist.baselines.config import load_baseline
from nid_dist.baselines.inr import Baseline
from nid_dist.config.section import PathText, PositiveInt
from nid_dist.data.splits import Split
from nid_dist.errors import UserError
from nid_dist.evaluation.report import Column, Row, Table, means
from nid_dist.model import Model
from nid_dist.tasks.comparison import (
    Cells,
    ComparedMethod,
    Comparison,
    Grid,
    Outcome,
    Report,
    Request,
    Specification,
    Subject,
    Trained,
    Trial,
)
from nid_dist.tasks.shapes.auto_decoder import AutoDecoderConfig, trained_auto_decoder
from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.methods import (
    Surface,
    by_auto_decoder,
    by_dictionary,
    by_gate,
    by_network,
    by_poisson,
    by_rbf,
    has_poisson,
)
from nid_dist.tasks.shapes.metrics import compare_meshes, volumetric_iou
from nid_dist.tasks.shapes.point_clouds import Cloud
from nid_dist.tasks.shapes.prepared import PreparedShapes
from nid_dist.tasks.shapes.rendering import VIEWS, render_mesh, render_points
from nid_dist.tasks.shapes.task import ShapeTask

_VOLUME = 20_000  # points at which insides are compared
_SHOWN = 3  # shapes in the picture grid
_PIXELS = 192  # of a picture's side
_COLUMNS = [
    Column("points", key="points"),
    Column("method", key="method"),
    Column("Chamfer", "x 1000", ".1f", "chamfer", 1e3),
    Column("accuracy", "x 1000", ".1f", "accuracy", 1e3),
    Column("completeness", "x 1000", ".1f", "completeness", 1e3),
    Column("Hausdorff", "x 1000", ".0f", "hausdorff", 1e3),
    Column("normals", "", ".3f", "normals"),
    Column("F-score", "at 1 %", ".3f", "f_score"),
    Column("IoU", "", ".3f", "iou"),
    Column("numbers", "per shape", ",.0f", "numbers"),
    Column("fit", "s", ".3f", "seconds"),
    Column("meshed", "of all", ".2f", "meshed"),
]


@dataclass(frozen=True)
class Truth:
    """A shape that was held out."""

    name: str
    surface: Cloud  # points of it, with normals; a cloud is the first of them
    points: np.ndarray  # in the cube, for the insides
    inside: np.ndarray  # which of them are inside
    mesh: Mesh

    def cloud(self, count: int, normals: bool) -> Cloud:
        """The first points of the surface, which are in random order."""
        known = self.surface.normals if normals else None
        return Cloud(self.surface.points[:count], None if known is None else known[:count])


class ShapeComparison(Comparison):
    """Surfaces from sparse clouds."""

    task: Literal["shapes"] = "shapes"
    run_dir: PathText = "runs/compare_shapes"
    dictionary: Trained
    counts: list[PositiveInt] = Field([100, 300, 1000, 3000], min_length=1, description="points of a cloud")
    limit: PositiveInt = Field(6, description="test shapes at most")
    normals: bool = Field(True, description="whether the clouds have normals")
    siren: str | None = Field("baselines/siren_shapes.yaml", description="a network per shape; null: none")
    siren_counts: list[PositiveInt] = Field([], description="points at which it is fitted; none said: all of `counts`")
    auto_decoder: AutoDecoderConfig | None = Field(None, description="DeepSDF; null: none")
    rbf: bool = Field(True, description="biharmonic splines on points and their offsets along the normals")
    rbf_points: PositiveInt = Field(1000, description="the most that it is solved for: its system is dense")
    poisson: bool = Field(True, description="screened Poisson reconstruction, where PyMeshLab is installed")
    poisson_depths: list[PositiveInt] = Field([5, 6, 7, 8], min_length=1, description="of its octree, to choose from")
    tuned_on: PositiveInt = Field(2, description="validation shapes, to set a method's one hyperparameter")
    resolution: PositiveInt = Field(64, description="cells along the cube, of the meshes")

    def specify(self, request: Request) -> Specification:
        """Say what is compared; one's own signals are not read."""
        model, training = request.dictionary(self.dictionary)
        task = ShapeTask(training)
        if not isinstance(task.prepared, PreparedShapes) or not task.shapes["test"]:
            raise UserError(
                "signals.path",
                found="no prepared shapes that were kept for test",
                expected="a folder of prepared shapes with a test split",
                hint="prepare shapes with their splits, and name the folder as signals.path in dictionary.set",
            )
        methods = list(self._methods(request, model, task))
        truths, apart = list(held_out(task, self.limit)), list(held_out(task, self.tuned_on, "val"))
        trials = [
            Trial(
                [self._subject(count, truth, place) for place, truth in enumerate(truths)],
                lambda: methods,
                [self._subject(count, truth, _SHOWN) for truth in apart],
            )
            for count in self.counts
        ]
        return Specification(trials, figures, _first, _show, report, _score)

    def _subject(self, count: int, truth: Truth, place: int) -> Subject:
        title = f"{count} points, shapes held out; 1000 x Chamfer"
        grid = Grid(f"shapes-{count}", title, "clouds and surfaces side by side") if place < _SHOWN else None
        facts, label = {"points": count, "shape": truth.name}, f"{truth.name.split('/')[-1][:24]}, {count}"
        return Subject(truth.name, facts, lambda: (truth.cloud(count, self.normals), truth), grid, label)

    def _methods(self, request: Request, model: Model, task: ShapeTask) -> Iterator[ComparedMethod]:
        if model.gate_reads_signals:
            yield ComparedMethod("NID, init", by_gate(model, self.resolution), repeats=1)
        yield ComparedMethod("NID, solved", by_dictionary(model, self.resolution), repeats=1)
        if self.siren is not None:
            network, counts = Baseline(load_baseline(request.beside(self.siren))), self.siren_counts or self.counts
            fit = by_network(network, self.resolution)
            yield ComparedMethod("SIREN", fit, takes=lambda subject: subject.facts["points"] in counts)
        if self.auto_decoder is not None:
            decoder = trained_auto_decoder(self.auto_decoder, task, Path(self.run_dir) / "auto_decoder.safetensors")
            truncation = model.config.signals_of(ShapesSection).truncation
            yield ComparedMethod("auto-decoder", by_auto_decoder(decoder, truncation, self.resolution))
        if self.rbf and self.normals:
            fit = by_rbf(self.resolution)
            yield ComparedMethod("RBF", fit, takes=lambda subject: subject.facts["points"] <= self.rbf_points)
        if self.poisson and self.normals:
            if has_poisson():
                yield ComparedMethod("Poisson", by_poisson, self.poisson_depths)
            else:
                warnings.warn(
                    "screened Poisson is left out, as PyMeshLab is not installed: pip install 'nid_dist[compare]'",
                    stacklevel=2,
                )


def held_out(task: ShapeTask, limit: int, split: Split = "test") -> Iterator[Truth]:
    """Shapes of a split, from what was prepared of them."""
    assert isinstance(task.prepared, PreparedShapes)
    for index in task.shapes[split][:limit]:
        name = task.prepared.names[index]
        surface = task.prepared.surface(index, None, np.random.default_rng(0))
        points, distances = task.prepared.sample(index, _VOLUME, 0.0, np.random.default_rng(0))
        points_on, normals = (each.astype(np.float64) for each in surface)
        cloud = Cloud(points_on, normals)
        yield Truth(name, cloud, points, distances < 0, task.prepared.mesh(index))


def figures(found: Surface, _: Cloud, truth: Truth) -> Row:
    """What a method's surface is like; no metrics where there is none."""
    if found.mesh is None:
        names = ("chamfer", "accuracy", "completeness", "hausdorff", "normals", "f_score", "iou")
        return {**dict.fromkeys(names), "meshed": 0.0}
    metrics = compare_meshes(found.mesh, truth.mesh, np.random.default_rng(0)).as_dict()
    inside = found.field(truth.points) < 0
    return {**metrics, "iou": volumetric_iou(inside, truth.inside), "meshed": 1.0}


def _score(found: Surface, truth: Truth) -> float:
    """The less the Chamfer distance, the better; no surface is worst."""
    if found.mesh is None:
        return -float("inf")
    return -compare_meshes(found.mesh, truth.mesh, np.random.default_rng(0)).chamfer


def report(outcomes: Sequence[Outcome]) -> Report:
    """Means over the shapes, by number of points and method; of the metrics, over those that have a surface."""
    averaged = [
        {**mean, "shapes": mean["count"]} for mean in means([outcome.row for outcome in outcomes], ["points", "method"])
    ]
    return Report(Table.of(_COLUMNS, averaged), {"means": averaged})


def _first(subject: Subject, cloud: Cloud, _: Truth) -> Cells:
    points = render_points(cloud.points, *VIEWS[0], _PIXELS)
    return {subject.label: {"points": (points, f"{subject.facts['points']} points")}}


def _show(subject: Subject, found: Surface, _: Cloud, __: Truth, row: Row) -> Cells:
    caption = "no surface" if row["chamfer"] is None else f"{1e3 * row['chamfer']:.1f}"
    return {subject.label: {row["method"]: (render_mesh(found.mesh, *VIEWS[0], _PIXELS), caption)}}
