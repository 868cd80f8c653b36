"""`nid-fit`: represent new images with a trained dictionary."""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from nid_dist.cli.entry import guarded, new_folder
from nid_dist.coding.fitting import METHODS, Method
from nid_dist.config.schema import Signals
from nid_dist.data.reading import read_image
from nid_dist.data.sources import find_images
from nid_dist.errors import UserError
from nid_dist.export import load
from nid_dist.model import Model
from nid_dist.tasks.image_report import report_images


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="nid-fit", description="Fit images to a trained dictionary.")
    parser.add_argument("--dictionary", type=Path, required=True, help="a run, a checkpoint or an export")
    parser.add_argument("--input", type=Path, nargs="+", required=True, help="images or folders of images")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for codes, pictures and the table")
    parser.add_argument(
        "--solver", nargs="+", metavar="NAME", help=f"of {', '.join(METHODS)}; default: all (adam: 5 and 10 steps)"
    )
    parser.add_argument("--steps", type=int, default=10, help="steps of adam (default 10)")
    parser.add_argument("--blocks", type=int, default=0, help="rounds of selection of omp; 0: one atom a round")
    parser.add_argument("--ridge", type=float, default=1e-5, help="relative ridge of ridge and omp (default 1e-5)")
    parser.add_argument("--stride", type=int, help="step between patches; less than the patch blends overlaps")
    parser.add_argument("--scale", type=float, help="also write f at this multiple of the resolution, e.g. 2")
    return parser


def chosen_methods(options: argparse.Namespace, model: Model) -> list[Method]:
    """The methods asked for; by default all that the model has a gate for."""
    kind = model.config.coding.gate.kind
    if options.solver is None:
        omp = Method("omp", options.blocks, options.ridge)
        if kind in ("none", "codebook"):
            return [omp]
        return [Method("init"), Method("adam", 5), Method("adam", 10), Method("ridge", 0, options.ridge), omp]
    steps = {"adam": options.steps, "omp": options.blocks}
    return [Method(name, steps.get(name, 0), options.ridge) for name in options.solver]


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    _check(options)
    model = load(options.dictionary)
    methods = chosen_methods(options, model)
    paths = _paths(options.input)
    patch = model.config.signals.patch
    if options.stride is not None and (patch is None or options.stride > patch):
        raise UserError(
            "--stride",
            found=str(options.stride),
            expected=f"1 to {patch}" if patch else "none, as a signal of this dictionary is a whole image",
            mend="choose a smaller one, or leave it out",
        )
    new_folder(options.out)
    table = report_images(
        model,
        tqdm(_read(paths, model.config.signals), total=len(paths), unit="image", disable=not sys.stderr.isatty()),
        methods,
        options.out,
        stride=options.stride,
        scale=options.scale,
        command=shlex.join(["nid-fit", *(sys.argv[1:] if arguments is None else arguments)]),
    )
    print(table.text())
    print(f"wrote {options.out}: per image codes.safetensors, comparison.png and reconstructions; table.md, results.json")
    print("next: look at comparison.png; read codes with nid_dist.coding.storage.load_codes")
    return 0


def _check(options: argparse.Namespace) -> None:
    ranges = {"steps": (1, 100_000), "blocks": (0, 1_000_000), "ridge": (0, 1e6), "scale": (0.01, 64), "stride": (1, 1e6)}
    for name, (low, high) in ranges.items():
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name}", found=str(value), expected=f"{low:g} to {high:g}", mend="choose such a number")


def _paths(inputs: Sequence[Path]) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for path in inputs:
        if path.is_dir():
            found += [(name, path / name) for name in find_images(path)]
        elif path.is_file():
            found.append((path.name, path))
        else:
            raise UserError(str(path), found="nothing", expected="an image or a folder", mend="check the path")
    names = [name for name, _ in found]
    return [(name if names.count(name) == 1 else f"{index}-{name}", path) for index, (name, path) in enumerate(found)]


def _read(paths: Sequence[tuple[str, Path]], signals: Signals) -> Iterator[tuple[str, Float32[np.ndarray, "H W d"]]]:
    for name, path in paths:
        yield name, read_image(path, signals.colour)


main = guarded("nid-fit", command)
