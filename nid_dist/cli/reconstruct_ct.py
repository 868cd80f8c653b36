"""`nid-reconstruct-ct`: a slice from a measured sinogram and a trained dictionary."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.cli.entry import add_device_option, chosen_device, guarded
from nid_dist.cli.judging import say_judged
from nid_dist.cli.options import check_ranges, words_of
from nid_dist.coding.method import Method
from nid_dist.evaluation.report import Column, Table, machine
from nid_dist.export import load
from nid_dist.files import expanded, keep_apart, new_folder, save_array, write_json
from nid_dist.fitting import require_methods
from nid_dist.model import Model
from nid_dist.progress import track
from nid_dist.tasks.ct.fitting import RIDGE, fit, require_slices, usual_methods, write_fits
from nid_dist.tasks.ct.scan_file import ScanFile
from nid_dist.tasks.ct.sinograms import Scan, read_scans

SOLVERS = ("detail", "map", "ridge", "omp", "fista", "init")
_KEYS = [
    f"{name}: {field.description}".replace("%", "%%")
    for name, field in ScanFile.model_fields.items()
    if field.description
]
_COLUMNS = [
    Column("solver", key="solver"),
    Column("non-zeros", key="nonzeros"),
    Column("residual", "rms", ".4f", "residual_rms"),
    Column("noise alone", "rms", ".4f", "noise_rms"),
    Column("chi²", "per ray", ".2f", "chi2_per_ray"),
    Column("residual", "times noise and model", ".2f", "times_expected"),
    Column("distance", "times a training slice's", ".2f", "distance"),
    Column("time", "s", ".3f", "seconds"),
]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="nid-reconstruct-ct", description="Reconstruct a slice from a sinogram of few views."
    )
    parser.add_argument("--dictionary", type=expanded, required=True, help="a run, a checkpoint or an export")
    parser.add_argument(
        "--sinogram",
        type=expanded,
        required=True,
        help="NPY, [views, bins] or [slices, views, bins] (convention skimage: [bins, views]); or a folder of such "
        "files, one a slice",
    )
    parser.add_argument(
        "--geometry",
        type=expanded,
        required=True,
        help="YAML: where it was measured; " + "; ".join(_KEYS),
    )
    parser.add_argument("--out", type=expanded, required=True, help="a new folder for pictures, arrays and codes")
    parser.add_argument(
        "--solver",
        nargs="+",
        choices=SOLVERS,
        help="default: detail, map and ridge, as far as the dictionary has a prior and a gate",
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
    scans = read_scans(options.sinogram, options.geometry)
    device = chosen_device(options)
    model = load(options.dictionary, device=device.device)
    require_slices(model, str(options.dictionary))
    methods = _methods(options, model)
    given = words_of("nid-reconstruct-ct", arguments)
    keep_apart(options.out, [options.sinogram])
    with new_folder(options.out) as folder:
        print(device)
        if len(scans) > 1:
            return _many(options, model, scans, methods, folder, {"command": given, "machine": machine()})
        ((name, scan),) = scans.items()
        fits = model.fit(scan, methods, model_error=options.model_error)
        rows = write_fits(folder, fits, options.size, command=given, machine=machine())["rows"]
    print(Table.of(_COLUMNS, rows).text())
    say_judged({name: next(iter(fits.values())).judgement})
    names = ", ".join(f"{label}.png and .npy" for label in fits)
    uncertain = [f"{label}-deviation" for label, found in fits.items() if found.method.name == "map"]
    names += "".join(f", {name}.png and .npy (standard deviations)" for name in uncertain)
    print(f"wrote {options.out}: comparison.png, {names}, back-projection.png, codes.safetensors, results.json")
    finer = 4 * model.grid_shape[0]
    print(f"next: look at {options.out / 'comparison.png'}; --size {finer} shows f in finer pixels")
    return 0


def _many(
    options: argparse.Namespace,
    model: Model,
    scans: Mapping[str, Scan],
    methods: Sequence[Method],
    folder: Path,
    facts: Mapping[str, Any],
) -> int:
    """Each slice in a folder of its own, and all of a method in one array [slices, S, S]."""
    rows, judged = [], {}
    volumes: dict[str, list[np.ndarray]] = {method.label: [] for method in methods}
    found = fit(model, list(scans.values()), methods, model_error=options.model_error)
    for name, fits in track(zip(scans, found, strict=True), "slices", "slice", len(scans)):
        (folder / name).mkdir(parents=True)
        rows += [{"slice": name, **row} for row in write_fits(folder / name, fits, options.size)["rows"]]
        judged[name] = next(iter(fits.values())).judgement
        for label, each in fits.items():
            volumes[label].append(each.render(options.size)[..., 0])
    for label, slices in volumes.items():
        save_array(folder / f"{label}.npy", np.stack(slices))
    write_json(folder / "results.json", {**facts, "rows": rows})
    print(Table.of([Column("slice", key="slice"), *_COLUMNS], rows).text())
    say_judged(judged, "slice")
    print(f"wrote {options.out}: {', '.join(f'{label}.npy' for label in volumes)}, a folder a slice, results.json")
    print(f"next: look at {options.out / next(iter(scans)) / 'comparison.png'}")
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
