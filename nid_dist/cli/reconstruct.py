"""`nid-reconstruct`: a surface from a sparse cloud of points, with a dictionary of shapes."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from nid_dist.cli.entry import add_device_option, chosen_device, guarded
from nid_dist.cli.judging import say_judged
from nid_dist.cli.options import check_ranges, words_of
from nid_dist.evaluation.report import machine
from nid_dist.export import load
from nid_dist.files import expanded, new_folder
from nid_dist.progress import phase
from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.fitting import no_surface, place_cloud
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.shapes.point_clouds import read_cloud

_FORMATS = ("ply", "obj", "glb")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="nid-reconstruct", description="A surface from a sparse point cloud.")
    parser.add_argument(
        "--dictionary", type=expanded, required=True, help="a run, a checkpoint or an export, of shapes"
    )
    parser.add_argument("--points", type=expanded, required=True, help="PLY, XYZ (TXT, CSV, PTS, ASC), NPY or NPZ")
    parser.add_argument(
        "--normals",
        action="store_true",
        help="use the file's normals; those that are seen to point into the shape are turned",
    )
    parser.add_argument("--out", type=expanded, required=True, help="a new folder")
    parser.add_argument(
        "--frame", choices=["fit", "cube"], default="fit", help="fit: the cloud's box is the shape's; cube: as it is"
    )
    parser.add_argument("--resolution", type=int, default=128, help="cells along the cube, of the mesh (default 128)")
    parser.add_argument("--format", nargs="+", choices=_FORMATS, default=["ply"], help="of the mesh (default ply)")
    parser.add_argument("--noise", type=float, default=0.005, help="of the points, in units of the cube's half side")
    parser.add_argument("--truth", type=expanded, help="the true mesh, in the cloud's units: metrics are written, too")
    add_device_option(parser)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    check_ranges(options, {"resolution": (8, 1024), "noise": (1e-6, 1)})
    with phase(f"reading {options.points.name}"):
        cloud = read_cloud(options.points, options.normals)
        truth = None if options.truth is None else read_mesh(options.truth)
    device = chosen_device(options)
    model = load(options.dictionary, device=device.device)
    model.config.signals_of(ShapesSection, str(options.dictionary))
    place_cloud(cloud, options.frame, str(options.points))
    facts: dict[str, Any] = {"command": words_of("nid-reconstruct", arguments), "machine": machine()}
    with new_folder(options.out) as folder:
        print(device)
        with phase("fitting the cloud"):
            fit = model.fit(cloud, frame=options.frame, noise=options.noise)
        with phase("meshing"):
            found = fit.write(folder, resolution=options.resolution, formats=options.format, truth=truth, **facts)
    if not found["faces"]:
        print(f"wrote {options.out}: codes and picture")
        raise no_surface(str(options.points))
    if truth is not None:
        print(", ".join(f"{name} {value:.4g}" for name, value in found["metrics"].items()))
    if not found["dictionary"]:
        print(f"{options.points.name}: unlike the training shapes: all of the surface is detail")
    say_judged({options.points.name: fit.judgement})
    meshes = ", ".join(f"mesh.{each}" for each in options.format)
    print(f"wrote {options.out}: {meshes}, codes.safetensors, picture.png, results.json")
    print("next: look at picture.png: the cloud, then the surface from two sides")
    return 0


main = guarded("nid-reconstruct", command)

if __name__ == "__main__":
    sys.exit(main())
