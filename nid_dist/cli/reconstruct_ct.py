"""`nid-reconstruct-ct`: a slice from a measured sinogram and a trained dictionary."""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.cli.entry import add_device_option, chosen_device, guarded, new_folder
from nid_dist.coding.storage import save_codes
from nid_dist.errors import UserError
from nid_dist.evaluation.grids import picture_grid
from nid_dist.evaluation.pictures import save_image
from nid_dist.evaluation.report import Column, Table, machine, replacing, write_json
from nid_dist.export import load
from nid_dist.fitting import Fit, Method
from nid_dist.model import Model
from nid_dist.tasks.ct.reconstruction import MODEL_ERROR, Reconstructor
from nid_dist.tasks.ct.sinograms import Scan, read_scan
from nid_dist.tasks.images.config import ImagesSection

SOLVERS = ("map", "ridge", "omp", "fista", "init")
_COLUMNS = [Column("solver"), Column("non-zeros"), Column("residual", "rms", ".4f"), Column("time", "s", ".3f")]


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
        "--ridge", type=float, default=1e-3, help="relative ridge of ridge, omp and fista (default 1e-3)"
    )
    parser.add_argument(
        "--model-error",
        type=float,
        default=MODEL_ERROR,
        help="standard deviation of a sinogram from the nearest that the dictionary can give, besides the noise",
    )
    add_device_option(parser)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    _check(options)
    scan = read_scan(options.sinogram, options.geometry)
    model = load(options.dictionary, device=chosen_device(options))
    _require_slices(model, options.dictionary)
    methods = _methods(options, model)
    new_folder(options.out)
    begin = time.perf_counter()
    reconstructor = Reconstructor(model, scan.geometry, scan.dose, options.model_error)
    reconstructor.prepare()
    prepared = time.perf_counter() - begin
    fits = reconstructor.solve(scan.sinogram[None], methods)
    table = _write(options, scan, reconstructor, fits, prepared, arguments)
    print(table.text())
    names = ", ".join(f"{method.name}.png and .npy" for method in methods)
    print(f"wrote {options.out}: comparison.png, {names}, back-projection.png, codes.safetensors, results.json")
    print(f"next: look at {options.out / 'comparison.png'}; --size {4 * reconstructor.side} shows f in finer pixels")
    return 0


def _write(
    options: argparse.Namespace,
    scan: Scan,
    reconstructor: Reconstructor,
    fits: dict[str, Fit],
    prepared: float,
    arguments: Sequence[str] | None,
) -> Table:
    out, geometry = options.out, scan.geometry
    seen = reconstructor.back_projection(scan.sinogram[None])[0][..., None].clip(0, 1)
    save_image(out / "back-projection.png", seen)
    row: dict[str, tuple[np.ndarray, str]] = {"filtered back-projection": (seen, "")}
    figures: list[dict[str, Any]] = []
    for name, fit in fits.items():
        picture = reconstructor.render(fit, options.size)[0]
        save_image(out / f"{name}.png", picture)
        with replacing(out / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, picture[..., 0])
        residual = float(fit.solution.residual[0].clamp_min(0).sqrt())
        nonzeros = int((fit.solution.code.values[0] != 0).sum())
        figures.append({"solver": name, "nonzeros": nonzeros, "residual_rms": residual, "seconds": fit.seconds})
        row[name] = (picture, f"{nonzeros} coefficients")
    title = f"{geometry.views} views of {geometry.bins} bins, {geometry.beam} beams, {scan.dose.label}"
    picture_grid(out / "comparison.png", {"": row}, title=title)
    facts = {"views": geometry.views, "bins": geometry.bins, "beam": geometry.beam, "photons": scan.dose.photons}
    codes = {name: fit.solution.code for name, fit in fits.items()}
    save_codes(out / "codes.safetensors", codes, reconstructor.model.dictionary.num_experts, facts)
    given = shlex.join(["nid-reconstruct-ct", *(sys.argv[1:] if arguments is None else arguments)])
    write_json(
        out / "results.json",
        {"command": given, "machine": machine(), **facts, "seconds_prepared": prepared, "rows": figures},
    )
    return Table(_COLUMNS, [list(figure.values()) for figure in figures])


def _check(options: argparse.Namespace) -> None:
    for name, low, high in (("size", 3, 8192), ("ridge", 0.0, 1e6), ("model_error", 1e-6, 1.0)):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            option = f"--{name.replace('_', '-')}"
            raise UserError(option, found=str(value), expected=f"{low:g} to {high:g}", hint="choose such a number")


def _methods(options: argparse.Namespace, model: Model) -> list[Method]:
    if options.solver is None:
        names = [*(["map"] if model.prior is not None else []), *(["ridge"] if model.gate_reads_signals else [])] or [
            "omp"
        ]
    else:
        names = list(dict.fromkeys(options.solver))
    methods = [Method(name, ridge=options.ridge) for name in names]
    if any(method.needs_gate for method in methods):
        model.require_gate()
    if "map" in names:
        model.require_prior()
    return methods


def _require_slices(model: Model, path: Path) -> None:
    signals = model.config.signals_of(ImagesSection, str(path))
    if signals.patch is not None or model.channels != 1:
        raise UserError(
            str(path),
            found=f"a dictionary of {model.channels} channel(s), signals.patch {signals.patch}",
            expected="one of whole grey images, to be scanned whole",
            hint="train one, as configs/ct_shepp_logan.yaml does",
        )


main = guarded("nid-reconstruct-ct", command)

if __name__ == "__main__":
    sys.exit(main())
