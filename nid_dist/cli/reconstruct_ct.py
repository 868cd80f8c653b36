"""`nid-reconstruct-ct`: a slice from a measured sinogram and a trained dictionary."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nid_dist.cli.entry import add_device_option, chosen_device, guarded
from nid_dist.cli.judging import say_judged
from nid_dist.cli.options import check_ranges, words_of
from nid_dist.coding.method import Method
from nid_dist.evaluation.report import Column, Table, machine
from nid_dist.export import load
from nid_dist.files import new_folder
from nid_dist.fitting import require_methods
from nid_dist.model import Model
from nid_dist.tasks.ct.fitting import RIDGE, require_slices, usual_methods, write_fits
from nid_dist.tasks.ct.sinograms import read_scan

SOLVERS = ("map", "ridge", "omp", "fista", "init")
_COLUMNS = [
    Column("solver", key="solver"),
    Column("non-zeros", key="nonzeros"),
    Column("residual", "rms", ".4f", "residual_rms"),
    Column("residual", "times the noise", ".2f", "times_expected"),
    Column("distance", "times a training slice's", ".2f", "distance"),
    Column("time", "s", ".3f", "seconds"),
]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="nid-reconstruct-ct", description="Reconstruct a slice from a sinogram of few views."
    )
    parser.add_argument("--dictionary", type=Path, required=True, help="a run, a checkpoint or an export")
    parser.add_argument("--sinogram", type=Path, required=True, help="NPY, [views, bins]")
    parser.add_argument("--geometry", type=Path, required=True, help="YAML: where it was measured")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for pictures, arrays and codes")
    parser.add_argument(
        "--solver",
        nargs="+",
        choices=SOLVERS,
        help="default: map and ridge, as far as the dictionary has a prior and a gate",
    )
    parser.add_argument("--size", type=int, help="pixels a side of what is written; default: the dictionary's")
    parser.add_argument(
        "--ridge", type=float, default=RIDGE, help="relative ridge of ridge, omp and fista (default 1e-3)"
    )
    parser.add_argument(
        "--model-error",
        type=float,
        help="standard deviation of a sinogram from the nearest that the dictionary can give, besides the noise; "
        "default: as the scan says",
    )
    add_device_option(parser)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    check_ranges(options, {"size": (3, 8192), "ridge": (0, 1e6), "model_error": (1e-6, 1)})
    scan = read_scan(options.sinogram, options.geometry)
    device = chosen_device(options)
    model = load(options.dictionary, device=device.device)
    require_slices(model, str(options.dictionary))
    methods = _methods(options, model)
    given = words_of("nid-reconstruct-ct", arguments)
    with new_folder(options.out) as folder:
        print(device)
        fits = model.fit(scan, methods, model_error=options.model_error)
        rows = write_fits(folder, fits, options.size, command=given, machine=machine())["rows"]
    print(Table.of(_COLUMNS, rows).text())
    say_judged({options.sinogram.name: next(iter(fits.values())).judgement})
    names = ", ".join(f"{label}.png and .npy" for label in fits)
    uncertain = [f"{label}-deviation" for label, found in fits.items() if found.method.name == "map"]
    names += "".join(f", {name}.png and .npy (standard deviations)" for name in uncertain)
    print(f"wrote {options.out}: comparison.png, {names}, back-projection.png, codes.safetensors, results.json")
    finer = 4 * model.grid_shape[0]
    print(f"next: look at {options.out / 'comparison.png'}; --size {finer} shows f in finer pixels")
    return 0


def _methods(options: argparse.Namespace, model: Model) -> list[Method]:
    if options.solver is None:
        return usual_methods(model, options.ridge)
    methods = [Method(name, ridge=options.ridge) for name in dict.fromkeys(options.solver)]
    require_methods(model, methods)
    return methods


main = guarded("nid-reconstruct-ct", command)

if __name__ == "__main__":
    sys.exit(main())
