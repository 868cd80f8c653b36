"""`nid-fit`: represent new images or sounds with a trained dictionary."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import get_args

from nid_dist.cli.entry import add_device_option, chosen_device, guarded, in_options, make_out_folder, without_result
from nid_dist.cli.judging import say_judged
from nid_dist.cli.options import check_ranges, words_of
from nid_dist.coding.method import METHODS, Method
from nid_dist.coding.solvers.irls import RobustLoss
from nid_dist.config.schema import Config
from nid_dist.data.depth import DEPTHS
from nid_dist.data.files import named_files
from nid_dist.errors import UserError
from nid_dist.evaluation.file_report import FileSignals, WriteReport
from nid_dist.export import load
from nid_dist.files import expanded
from nid_dist.fitting import require_methods
from nid_dist.model import Model
from nid_dist.progress import track
from nid_dist.tasks.images.compact import Compactness
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.detail import require_detail
from nid_dist.tasks.images.report import report_images
from nid_dist.tasks.registry import files_of

RANGES = {
    "steps": (1, 100_000),
    "blocks": (0, 1_000_000),
    "ridge": (0, 1e6),
    "tolerance": (0, 1e6),
    "penalty": (1e-6, 1),
    "noise": (1e-6, 1e6),
    "scale": (0.01, 64),
    "limit": (1, 1e9),
    "step": (1e-6, 10),
    "psnr": (10, 70),
    "detail": (1, 10_000_000),
    "bits": DEPTHS,
}
_DEFAULT = ("init", "adam", "ridge", "omp")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="nid-fit", description="Fit files to a trained dictionary.")
    parser.add_argument("--dictionary", type=expanded, required=True, help="a run, a checkpoint or an export")
    parser.add_argument(
        "--input", type=expanded, nargs="+", required=True, help="files or folders of them: images, sounds"
    )
    parser.add_argument(
        "--out", type=expanded, required=True, help="a new folder for codes, reconstructions and the table"
    )
    add_method_options(parser)
    parser.add_argument("--stride", type=int, help="step between patches or windows; smaller ones blend overlaps")
    parser.add_argument(
        "--store", choices=("full", "compact"), default="full", help="compact: images' codes in few bytes, SOLVER.nidc"
    )
    parser.add_argument("--step", type=float, help="of compact coefficients; default: so that 0.1 dB are lost")
    parser.add_argument("--psnr", type=float, help="dB that compact images are to have, by as many atoms as it takes")
    parser.add_argument("--detail", type=int, help="splines for what a whole image's experts leave over, e.g. 2048")
    parser.add_argument("--scale", type=float, help="also write it with so many times the resolution, e.g. 2")
    parser.add_argument("--bits", type=int, help="that 16-bit images use, such as 12; default: as trained, or all 16")
    add_device_option(parser)
    return parser


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `chosen_methods` reads."""
    names = ", ".join(METHODS)
    parser.add_argument(
        "--solver", nargs="+", metavar="NAME", help=f"of {names}; default: the first four, or omp without a gate"
    )
    parser.add_argument("--steps", type=int, help="steps of adam; default 5 and 10, or 10 where --solver is given")
    parser.add_argument(
        "--blocks", type=int, default=0, help="rounds of selection of omp, irls and map; 0: one atom a round"
    )
    parser.add_argument("--ridge", type=float, default=1e-5, help="relative ridge (default 1e-5)")
    parser.add_argument("--tolerance", type=float, default=0.0, help="of omp: mean squared error that is good enough")
    parser.add_argument("--penalty", type=float, default=0.01, help="of fista: L1, relative to what leaves nothing")
    parser.add_argument("--loss", choices=get_args(RobustLoss)[1:], default="l1", help="of irls (default l1)")
    parser.add_argument("--noise", type=float, default=0.01, help="of map: standard deviation, where white is 1")


def chosen_methods(options: argparse.Namespace, model: Model) -> list[Method]:
    """The methods asked for, each once; by default all that the model has a gate for.

    Raises:
        UserError: for a name that is none, or a method that needs a gate or a prior that the model lacks.
    """
    steps = [5, 10] if options.steps is None and options.solver is None else [options.steps or 10]
    kinds = {
        "init": [Method("init")],
        "adam": [Method("adam", count) for count in steps],
        "ridge": [Method("ridge", 0, options.ridge)],
        "omp": [Method("omp", options.blocks, options.ridge, tolerance=options.tolerance)],
        "fista": [Method("fista", 0, options.ridge, penalty=options.penalty)],
        "irls": [Method("irls", options.blocks, options.ridge, loss=options.loss)],
        "map": [Method("map", options.blocks, noise=options.noise)],
    }
    if options.solver is None:
        return [
            method for name in _DEFAULT for method in kinds[name] if model.gate_reads_signals or not method.needs_gate
        ]
    with in_options(method="--solver", by="with --solver"):
        methods = [method for name in dict.fromkeys(options.solver) for method in kinds.get(name) or [Method(name)]]
        require_methods(model, methods)
    return methods


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    check_ranges(options, RANGES)
    device = chosen_device(options)
    model = load(options.dictionary, device=device.device)
    files = files_of(model.config, str(options.dictionary))
    paths = named_files(options.input, files.endings, files.noun)
    write = _writer(options, files)
    if options.psnr is not None and options.solver is None:
        options.solver = ["omp"]
    methods = chosen_methods(options, model)
    if options.psnr is not None and any(method.name != "omp" for method in methods):
        raise UserError(
            "--psnr", found=f"with --solver {' '.join(options.solver)}", expected="omp", hint="leave it out"
        )
    with in_options(stride="--stride", detail="--detail"):
        if options.detail is not None:
            require_detail(options.detail, model.config.signals_of(ImagesSection).patch)
        files.check_stride(options.stride, model.config)
    make_out_folder(options.out, options.input)
    print(device)
    config = _config(options, model.config)
    signals = [(name, partial(files.read, path, config)) for name, path in paths]
    report = write(
        model,
        track(signals, "fitting", f"{files.noun}s"),
        methods,
        options.out,
        stride=options.stride,
        scale=options.scale,
        command=words_of("nid-fit", arguments),
    )
    if report.rows:
        print(report.table.text())
        say_judged(report.judged, files.noun)
        codes = "SOLVER.nidc" if options.store == "compact" else "codes.safetensors"
        per = f"{codes}, comparison.png, reconstructions"
        print(f"wrote {options.out}: table.md, results.json; per {files.noun} {per}")
        print("next: look at comparison.png; read codes with nid_dist.load_codes")
    return without_result("nid-fit", report.failed, len(paths))


def _writer(options: argparse.Namespace, files: FileSignals) -> WriteReport:
    """What fits the files and writes their codes, as they are to be stored."""
    if options.bits is not None and files.noun != "image":
        raise UserError("--bits", found=f"for {files.noun}s", expected="images", hint="leave it out")
    if options.detail is not None and (files.noun != "image" or options.store != "full"):
        with_what = f"for {files.noun}s" if files.noun != "image" else "with --store compact"
        raise UserError("--detail", found=with_what, expected="images' codes in full", hint="leave it out")
    if options.store == "full":
        for name in ("step", "psnr"):
            if getattr(options, name) is not None:
                raise UserError(
                    f"--{name}", found="with codes in full", expected="compact ones", hint="add --store compact"
                )
        return files.report if options.detail is None else partial(report_images, detail=options.detail)
    if files.noun != "image":
        raise UserError("--store compact", found=f"for {files.noun}s", expected="images", hint="leave it out")
    if options.step is not None and options.psnr is not None:
        raise UserError("--step", found="with --psnr", expected="one of both", hint="leave one out")
    return partial(report_images, compactness=Compactness(options.step, options.psnr))


def _config(options: argparse.Namespace, config: Config) -> Config:
    """The dictionary's, by which files are read, with the bits of their samples."""
    if options.bits is None:
        return config
    signals = config.signals_of(ImagesSection).model_copy(update={"bits": options.bits})
    return config.model_copy(update={"signals": signals})


main = guarded("nid-fit", command)

if __name__ == "__main__":
    sys.exit(main())
