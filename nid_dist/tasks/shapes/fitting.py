"""Fits of shapes to clouds of points of their surfaces."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from nid_dist.code import save_codes
from nid_dist.coding.fit import Fit
from nid_dist.coding.judgement import Judgement
from nid_dist.coding.method import Method
from nid_dist.coding.solvers.irls import RobustSolution
from nid_dist.device import Stopwatch
from nid_dist.errors import UserError, doubt
from nid_dist.evaluation.pictures import save_image
from nid_dist.files import expanded, write_json
from nid_dist.fitting import wrong_kind
from nid_dist.model import Model
from nid_dist.tasks.shapes.cloud_columns import pick_columns
from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.mesh import Mesh, Placement
from nid_dist.tasks.shapes.mesh_writing import write_mesh
from nid_dist.tasks.shapes.metrics import compare_meshes
from nid_dist.tasks.shapes.orientation import orient
from nid_dist.tasks.shapes.point_clouds import Cloud, checked_cloud, read_cloud
from nid_dist.tasks.shapes.rendering import VIEWS, render_points, two_sides
from nid_dist.tasks.shapes.surfaces import FitOptions, evaluate_code, fit_cloud, init_code, mesh_code

_FAR = 8.0  # times the median distance to neighbours: points farther from all others do not place the box
_DOUBTED = 0.3  # of the points: more that are not believed speak against the fit
Frame = Literal["fit", "cube"]


@dataclass(frozen=True, eq=False)
class ShapeFit(Fit):
    """A shape as a method finds it in a cloud."""

    solution: RobustSolution  # its code, and in [0, 1] how far each point was believed
    model: Model
    cloud: Cloud  # in the cube
    placement: Placement  # of the cube in the cloud's units

    @property
    def known(self) -> bool:
        """Whether the dictionary has a part in the surface: False where points left out were met better without it."""
        return getattr(self.solution, "trusted", True)

    @property
    def judgement(self) -> Judgement:
        """Against the error of the distance to validation shapes, in the cube's units, and by how far it is from those.

        A cloud most of whose points are not believed is doubted, too.
        """
        section = self.model.config.signals_of(ShapesSection)
        residual = section.truncation * max(self.residual, 0.0) ** 0.5
        expected = next((value for name, value in self.model.validation.items() if "/distance_" in name), None)
        distance = self.model.relative_distance(self.code) if self.known else None
        doubted = float((self.solution.weights < 0.5).float().mean())
        remarks = (f"{doubted:.0%} of the points were not believed",) if doubted > _DOUBTED else ()
        return Judgement(residual, expected, "the validation shapes'", distance, remarks=remarks)

    def surface(self, resolution: int = 128) -> Mesh | None:
        """The surface in the cube, of `resolution` cells along it; None where f has no zero level there."""
        return mesh_code(self.model, self.code, resolution, self.cloud)

    def render(self, resolution: int = 128) -> Mesh:
        """The surface in the cloud's units, of `resolution` cells along the cube.

        Raises:
            UserError: where f has no zero level.
        """
        mesh = self.surface(resolution)
        if mesh is None:
            raise no_surface("the cloud")
        return Mesh(self.placement.to_world(mesh.vertices), mesh.faces)

    def write(
        self,
        folder: str | Path,
        *,
        resolution: int = 128,
        formats: Sequence[str] = ("ply",),
        truth: Mesh | None = None,
        **facts: Any,
    ) -> dict[str, Any]:
        """Write the code, the mesh where there is a surface, a picture, and `results.json`.

        Args:
            resolution: cells along the cube.
            formats: of the mesh: ply, obj, glb.
            truth: the true mesh in the cloud's units, to be compared with.
            facts: for `results.json`.

        Returns:
            What is in `results.json`; `faces` is 0 where there is no surface.
        """
        folder, mesh, placement = expanded(folder), self.surface(resolution), self.placement
        placed = {"centre": list(placement.centre), "scale": placement.scale}
        facts |= {
            **self.judgement.facts(),
            "points": len(self.cloud.points),
            "normals": self.cloud.normals is not None,
            "coefficients": int((self.code.values != 0).sum()),
            "seconds": self.seconds,
            "doubted_points": int((self.solution.weights < 0.5).sum()),
            "dictionary": self.known,
            "detail": 0 if self.code.detail is None else self.code.detail.numbers,
            **placed,
            "faces": 0 if mesh is None else len(mesh.faces),
        }
        pictures = [render_points(self.cloud.points, *VIEWS[0]), two_sides(mesh)]
        if truth is not None:
            pictures.append(two_sides(Mesh(placement.to_cube(truth.vertices), truth.faces)))
        if mesh is not None:
            world = Mesh(placement.to_world(mesh.vertices), mesh.faces)
            for each in formats:
                write_mesh(folder / f"mesh.{each}", world)
            if truth is not None:
                facts["metrics"] = compare_meshes(world, truth, np.random.default_rng(0)).as_dict()
        experts = self.model.dictionary.num_experts
        save_codes(folder / "codes.safetensors", {self.method.label: self.code}, experts, placed)
        save_image(folder / "picture.png", np.concatenate(pictures, 1))
        write_json(folder / "results.json", facts)
        return facts


def fit(
    model: Model,
    signals: Sequence[Any],
    methods: Sequence[str | Method] | None,
    *,
    normals: bool | None = None,
    frame: Frame = "fit",
    noise: float = 0.005,
) -> Iterator[dict[str, ShapeFit]]:
    """Fit clouds, one after the other: the fits of each by the methods' labels.

    Args:
        signals: each the path of a PLY, XYZ or NPY file, an array [P, 3] or [P, 6] of points (and normals), or a
            `Cloud`.
        methods: `map`, a robust fit under the prior, or `init`, the gate's code; None: `map`.
        normals: whether a cloud's normals, which point out of the shape, are used; None: those of an array or `Cloud`.
        frame: `fit`: the cloud's box is the shape's; `cube`: the cloud lies in [-1, 1]^3 as the dictionary's shapes do.
        noise: of the points, in units of the cube's half side.

    Raises:
        UserError: for anything else than a cloud, a cloud that is wrong in itself, or a dictionary of other signals.
    """
    section = model.config.signals_of(ShapesSection)
    chosen = [Method.of(method) for method in methods or ["map"]]
    for method in chosen:
        if method.name not in ("map", "init"):
            raise UserError(
                "the method", found=repr(method.name), expected="map or init, for a cloud", hint="choose one of these"
            )
    options = FitOptions(noise=noise / section.truncation)
    for signal in signals:
        cloud, name = _cloud(signal, normals)
        placement = place_cloud(cloud, frame, name)
        inside = orient(Cloud(placement.to_cube(cloud.points), cloud.normals), name)
        yield {
            method.label: ShapeFit(method, _solve(model, inside, method, options), model, inside, placement)
            for method in chosen
        }


def _solve(model: Model, cloud: Cloud, method: Method, options: FitOptions) -> RobustSolution:
    if method.name == "map":
        return fit_cloud(model, cloud, options)
    watch = Stopwatch(model.device)
    code = init_code(model, cloud)
    seconds = watch.seconds()
    residual = torch.tensor([np.square(evaluate_code(model, code, cloud.points)).mean()])
    return RobustSolution(code, residual, weights=torch.ones(1, len(cloud.points)), seconds=seconds)


def _cloud(signal: Any, normals: bool | None) -> tuple[Cloud, str]:
    """A cloud, and what to call it."""
    if isinstance(signal, str | Path):
        return read_cloud(signal, bool(normals)), str(signal)
    if isinstance(signal, Cloud) and signal.name is not None:
        return (Cloud(signal.points) if normals is False else signal), signal.name
    if isinstance(signal, Cloud):
        return checked_cloud(signal.points, None if normals is False else signal.normals, "the cloud"), "the cloud"
    if isinstance(signal, torch.Tensor):
        signal = signal.detach().cpu().numpy()
    if not isinstance(signal, np.ndarray) or signal.ndim != 2 or signal.shape[1] not in (3, 6):
        raise wrong_kind(signal, "a cloud [P, 3] or [P, 6], or its file, as this dictionary is of shapes")
    with_normals = signal.shape[1] == 6 if normals is None else normals
    return checked_cloud(*pick_columns(signal, [], with_normals, "the cloud"), "the cloud"), "the cloud"


def no_surface(name: str) -> UserError:
    """The error of a cloud's code whose f is nowhere zero."""
    return UserError(
        name,
        found="no surface: f has no zero level in the cube",
        expected="points of a shape like those that the dictionary learned",
        hint="check units and frame, use normals, or raise noise",
    )


def place_cloud(cloud: Cloud, frame: str, name: str) -> Placement:
    """Where the shape's cube lies in the cloud's units.

    `cube`: the cloud lies in [-1, 1]^3 already; `fit`: its box, but for points far from all others, is the shape's.

    Raises:
        UserError: for a cloud that is said to lie in the cube, and does not.

    Warns:
        DoubtfulMeaning: of points that lie outside of the cube, as they are far from all others.
    """
    if frame == "cube":
        outside = int((np.abs(cloud.points) > 1).any(1).sum())
        if outside:
            raise UserError(
                name,
                found=f"{outside} of {len(cloud.points)} points outside (up to {np.abs(cloud.points).max():.3g})",
                expected="all in [-1, 1]^3, as frame cube says",
                hint="leave it out, so that the cloud is moved and scaled",
            )
        return Placement((0.0, 0.0, 0.0), 1.0)
    from scipy.spatial import cKDTree

    neighbours = min(6, len(cloud.points))
    gap = cKDTree(cloud.points).query(cloud.points, k=neighbours)[0].reshape(len(cloud.points), -1)[:, -1]
    kept = cloud.points[gap <= _FAR * np.median(gap)]
    placement = Placement.around(kept if len(kept) > 1 else cloud.points)
    beyond = int((np.abs(placement.to_cube(cloud.points)) > 1).any(1).sum())
    if beyond:
        doubt(
            name,
            found=f"{beyond} of {len(cloud.points)} points far from all others",
            taken_as="none of the shape",
            hint="remove them, or look whether units differ within the cloud",
        )
    return placement
