"""`nid-reconstruct`: a surface from a sparse cloud of points, with a dictionary of shapes."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from skimage.io import imsave

from nid_dist.cli.entry import add_device_option, chosen_device, guarded, new_folder
from nid_dist.coding.storage import save_codes
from nid_dist.errors import UserError
from nid_dist.evaluation.report import machine, replacing, write_json
from nid_dist.export import load
from nid_dist.model import Model
from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.mesh import Mesh, Placement
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.shapes.mesh_writing import write_mesh
from nid_dist.tasks.shapes.metrics import compare_meshes
from nid_dist.tasks.shapes.point_clouds import Cloud, read_cloud
from nid_dist.tasks.shapes.rendering import VIEWS, render_points, two_sides
from nid_dist.tasks.shapes.surfaces import FitOptions, SurfaceFit, fit_cloud, mesh_code

_FORMATS = ("ply", "obj", "glb")
_FAR = 8.0  # times the median distance to neighbours: points farther from all others do not place the box


@dataclass(frozen=True)
class _Result:
    """What is written."""

    fit: SurfaceFit
    mesh: Mesh | None
    cloud: Cloud
    placement: Placement


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="nid-reconstruct", description="A surface from a sparse point cloud.")
    parser.add_argument("--dictionary", type=Path, required=True, help="a run, a checkpoint or an export, of shapes")
    parser.add_argument("--points", type=Path, required=True, help="PLY, XYZ or NPY")
    parser.add_argument("--normals", action="store_true", help="use the file's normals, which point out of the shape")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument(
        "--frame", choices=["fit", "cube"], default="fit", help="fit: the cloud's box is the shape's; cube: as it is"
    )
    parser.add_argument("--resolution", type=int, default=128, help="cells along the cube, of the mesh (default 128)")
    parser.add_argument("--format", nargs="+", choices=_FORMATS, default=["ply"], help="of the mesh (default ply)")
    parser.add_argument("--noise", type=float, default=0.005, help="of the points, in units of the cube's half side")
    parser.add_argument("--truth", type=Path, help="the true mesh, in the cloud's units: metrics are written, too")
    add_device_option(parser)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    for name, low, high in (("resolution", 8, 1024), ("noise", 1e-6, 1.0)):
        if not low <= getattr(options, name) <= high:
            raise UserError(
                f"--{name}", found=str(getattr(options, name)), expected=f"{low} to {high}", hint="choose such a number"
            )
    cloud = read_cloud(options.points, options.normals)
    truth = None if options.truth is None else read_mesh(options.truth)
    model = load(options.dictionary, device=chosen_device(options))
    require_shapes(model, str(options.dictionary))
    placement = place_cloud(cloud, options.frame, str(options.points))
    new_folder(options.out)
    inside = Cloud(placement.to_cube(cloud.points), cloud.normals)
    fit = fit_cloud(model, inside, FitOptions(noise=options.noise / model.config.signals_of(ShapesSection).truncation))
    result = _Result(fit, mesh_code(model, fit.code, options.resolution), inside, placement)
    given = shlex.join(["nid-reconstruct", *(sys.argv[1:] if arguments is None else arguments)])
    _write(result, truth, options, model.dictionary.num_experts, given)
    if result.mesh is None:
        raise UserError(
            str(options.points),
            found="no surface: f has no zero level in the cube (codes and picture are written)",
            expected="points of a shape like those that the dictionary learned",
            hint="check units and --frame, use --normals, or raise --noise",
        )
    print(f"wrote {options.out}: {', '.join(f'mesh.{each}' for each in options.format)}, picture.png, results.json")
    print("next: look at picture.png: the cloud, then the surface from two sides")
    return 0


def require_shapes(model: Model, name: str) -> None:
    """Refuse a dictionary of anything else.

    Args:
        model: any.
        name: of it, for the message.

    Raises:
        UserError: for a dictionary of images.
    """
    model.config.signals_of(ShapesSection, name)


def place_cloud(cloud: Cloud, frame: str, name: str) -> Placement:
    """Where the shape's cube lies in the cloud's units.

    Args:
        cloud: in its own units.
        frame: `cube`: it lies in [-1, 1]^3 already; `fit`: its box, but for points far from all others, is the shape's.
        name: of it, for the message.

    Returns:
        The placement.

    Raises:
        UserError: for a cloud that is said to lie in the cube, and does not.
    """
    if frame == "cube":
        outside = int((np.abs(cloud.points) > 1).any(1).sum())
        if outside:
            raise UserError(
                name,
                found=f"{outside} of {len(cloud.points)} points outside (up to {np.abs(cloud.points).max():.3g})",
                expected="all in [-1, 1]^3, as --frame cube says",
                hint="leave --frame out, so that the cloud is moved and scaled",
            )
        return Placement((0.0, 0.0, 0.0), 1.0)
    from scipy.spatial import cKDTree

    neighbours = min(6, len(cloud.points))
    gap = cKDTree(cloud.points).query(cloud.points, k=neighbours)[0].reshape(len(cloud.points), -1)[:, -1]
    kept = cloud.points[gap <= _FAR * np.median(gap)]
    return Placement.around(kept if len(kept) > 1 else cloud.points)


def _write(result: _Result, truth: Mesh | None, options: argparse.Namespace, experts: int, given: str) -> None:
    facts: dict[str, Any] = {
        "command": given,
        "machine": machine(),
        "points": len(result.cloud.points),
        "normals": result.cloud.normals is not None,
        "coefficients": int((result.fit.code.values != 0).sum()),
        "seconds": result.fit.seconds,
        "doubted_points": int((result.fit.weights < 0.5).sum()),
        "centre": list(result.placement.centre),
        "scale": result.placement.scale,
        "faces": 0 if result.mesh is None else len(result.mesh.faces),
    }
    if result.mesh is not None:
        world = Mesh(result.placement.to_world(result.mesh.vertices), result.mesh.faces)
        for each in options.format:
            write_mesh(options.out / f"mesh.{each}", world)
        if truth is not None:
            facts["metrics"] = compare_meshes(world, truth, np.random.default_rng(0)).as_dict()
            print(", ".join(f"{name} {value:.4g}" for name, value in facts["metrics"].items()))
    placed_at = {"centre": list(result.placement.centre), "scale": result.placement.scale}
    save_codes(options.out / "code.safetensors", {"irls": result.fit.code}, experts, placed_at)
    pictures = [render_points(result.cloud.points, *VIEWS[0]), two_sides(result.mesh)]
    if truth is not None:
        placed = Mesh(result.placement.to_cube(truth.vertices), truth.faces)
        pictures.append(two_sides(placed))
    with replacing(options.out / "picture.png") as temporary:
        shown = (255 * np.concatenate(pictures, 1)).round().astype(np.uint8)
        imsave(temporary.with_suffix(".png"), shown, check_contrast=False)
        temporary.with_suffix(".png").replace(temporary)
    write_json(options.out / "results.json", facts)


main = guarded("nid-reconstruct", command)

if __name__ == "__main__":
    sys.exit(main())
