"""`nid-inpaint`: refit a corrupted image, and show what others make of it."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool

from nid_dist.baselines.config import load_baseline
from nid_dist.baselines.inr import Baseline
from nid_dist.baselines.meta import read_start
from nid_dist.cli.entry import add_device_option, chosen_device, guarded, make_out_folder, without_result
from nid_dist.cli.judging import say_judged
from nid_dist.cli.options import check_ranges, words_of
from nid_dist.coding.method import Method
from nid_dist.comparison.runner import run_specification
from nid_dist.data.depth import DEPTHS
from nid_dist.data.reading import read_image
from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.evaluation.pictures import save_image
from nid_dist.evaluation.report import Column, Table
from nid_dist.export import load
from nid_dist.files import expanded
from nid_dist.tasks.comparison import ComparedMethod, Grid, Report, Specification, Subject, Trial
from nid_dist.tasks.images.comparison import show
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.corruptions import CORRUPTIONS, Corrupted, corrupt
from nid_dist.tasks.images.fillers import Filler, classical_filler, filler, leave, network_filler
from nid_dist.tasks.images.fit import ImageArray, require_images
from nid_dist.tasks.images.inpainting_comparison import figures, first
from nid_dist.tasks.images.masks import MaskUnknown, known_together, read_mask, read_opaque, require_mask
from nid_dist.tasks.images.preparation import prepare

AGAINST = ("siren", "meta", "biharmonic")
_META_STEPS = 10
_COLUMNS = [
    Column("method", key="method"),
    Column("PSNR", "dB", ".2f", "psnr_db"),
    Column("SSIM", "", ".4f", "ssim"),
    Column("unknown pixels", "dB", ".2f", "psnr_unknown_db"),
    Column("time", "s", ".2f", "seconds"),
]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="nid-inpaint", description="Refit a corrupted image with a dictionary.")
    parser.add_argument(
        "--dictionary", type=expanded, required=True, help="a run, a checkpoint or an export, of patches"
    )
    parser.add_argument(
        "--input", type=expanded, required=True, help="an image; what is transparent in it is not known"
    )
    parser.add_argument(
        "--mask", type=expanded, help="an image of the same size, white where pixels are known; else: found"
    )
    parser.add_argument(
        "--mask-unknown",
        choices=get_args(MaskUnknown),
        help="what stands for unknown pixels in --mask; default: what is transparent, or in an opaque one black",
    )
    parser.add_argument("--out", type=expanded, required=True, help="a new folder for pictures and the table")
    parser.add_argument("--corrupt", choices=list(CORRUPTIONS), help="for experiments: spoil the image first")
    parser.add_argument("--kept", type=float, default=0.1, help="of --corrupt random: share of pixels (0.02 to 1)")
    parser.add_argument("--blind", action="store_true", help="with --corrupt: do not tell the dictionary which pixels")
    parser.add_argument("--size", type=int, help="cut to a square of this many pixels first")
    parser.add_argument("--bits", type=int, help="that a 16-bit image uses, such as 12; default: as trained, or all 16")
    parser.add_argument("--noise", type=float, default=0.01, help="standard deviation of known pixels, white being 1")
    parser.add_argument("--against", nargs="*", choices=AGAINST, help="others to compare with (default: all there are)")
    parser.add_argument("--meta-start", type=expanded, help="of `meta`: meta.safetensors of nid-compare's run_dir")
    parser.add_argument("--seconds", type=float, default=20.0, help="that a network may take")
    add_device_option(parser)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    _check(options)
    device = chosen_device(options)
    model = load(options.dictionary, device=device.device)
    require_images(model, str(options.dictionary))
    image, opaque = _read(options, model.config.signals_of(ImagesSection))
    clean, given, known = _spoilt(options, image, opaque)
    others = _others(options, known is not None)
    make_out_folder(options.out)
    print(device)
    mask = None if options.blind else known
    if mask is not None:
        print(f"{1 - mask.mean():.1%} of the pixels are unknown")
    print(f"refitting {given.shape[0]}x{given.shape[1]} pixels", file=sys.stderr)
    fitted: dict[str, Any] = {}

    def ours(corrupted: ImageArray, _: Bool[np.ndarray, "H W"]) -> ImageArray:
        method = Method("map", noise=options.noise) if model.prior is not None else Method("irls")
        with warnings.catch_warnings():
            if options.corrupt is not None:  # which is no mistake, however much it spoils
                warnings.simplefilter("ignore", DoubtfulMeaning)
            fitted["result"] = model.fit(corrupted, method, mask="unknown" if mask is None else mask)
        fitted["picture"] = fitted["result"].filled()
        picture: ImageArray = fitted["picture"]
        return picture

    everywhere = np.ones(given.shape[:2], bool) if known is None else known
    methods = [ComparedMethod("corrupted", leave, shown=False), ComparedMethod("NID", filler(ours))]
    methods += [ComparedMethod(name, fill) for name, fill in others.items()]
    grid = Grid("comparison", options.input.name, "the image and what each method makes of it")
    subject = Subject(options.input.name, {}, lambda: (Corrupted(given, everywhere), clean), grid)
    specification = Specification(
        [Trial([subject], lambda: methods)],
        partial(figures, None),
        first,
        show,
        lambda outcomes: Report(Table.of(_COLUMNS, [outcome.row for outcome in outcomes])),
    )
    results = run_specification(specification, options.out, words_of("nid-inpaint", arguments))
    if not results.failed:
        save_image(options.out / "inpainted.png", fitted["picture"])
        fitted["result"].write_maps(options.out)
        print(results.report.table.text())
        if mask is None:
            print(f"{fitted['result'].corrupted:.1%} of the pixels were found corrupted")
        say_judged({options.input.name: fitted["result"].judgement})
        shown = ", ".join(results.files)
        print(f"\nwrote {options.out}: {shown}, inpainted.png, trusted.png (white: believed), table.md, results.json")
        print(f"next: look at {options.out}/comparison.png")
    return without_result("nid-inpaint", results.failed, 1)


def _check(options: argparse.Namespace) -> None:
    check_ranges(
        options, {"noise": (1e-6, 1), "seconds": (1e-3, 1e6), "size": (8, 1e5), "kept": (1e-6, 1), "bits": DEPTHS}
    )
    if options.mask_unknown and not options.mask:
        raise UserError("--mask-unknown", found="no --mask", expected="one", hint="give one, or leave it out")
    if options.corrupt and options.mask:
        raise UserError("--mask", found="one, with --corrupt", expected="one of the two", hint="leave one out")


def _read(options: argparse.Namespace, section: ImagesSection) -> tuple[ImageArray, Bool[np.ndarray, "H W"] | None]:
    """The image, and where it is opaque; None: everywhere."""
    bits = section.bits if options.bits is None else options.bits
    if options.corrupt is not None:
        image, opaque = read_image(options.input, section.colour, bits), None
    else:
        image, opaque = read_opaque(options.input, section.colour, bits)
    if options.size is not None:
        image = prepare(image, size=options.size, name=str(options.input))
        opaque = None if opaque is None else _resized(options, opaque)
    return image, opaque


def _resized(options: argparse.Namespace, known: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "S S"]:
    level = prepare(known.astype(np.float32)[..., None], size=options.size, name=str(options.mask or options.input))
    resized: np.ndarray = level[..., 0] > 0.5
    return resized


def _spoilt(
    options: argparse.Namespace, image: ImageArray, opaque: Bool[np.ndarray, "H W"] | None
) -> tuple[ImageArray | None, ImageArray, Bool[np.ndarray, "H W"] | None]:
    """The clean image where there is one, the corrupted one, and which of its pixels are known."""
    if options.corrupt is not None:
        corrupted = corrupt(image, options.corrupt, kept=options.kept)
        return image, corrupted.image, corrupted.known
    if options.mask is None:
        return None, image, opaque
    known = read_mask(options.mask, options.mask_unknown)
    if options.size is not None:
        known = _resized(options, known)
    known = known_together(known, opaque)
    require_mask(known, *image.shape[:2])
    return None, image, known


def _others(options: argparse.Namespace, masked: bool) -> dict[str, Filler]:
    """What the dictionary is compared with: only where a mask is known, which the others need."""
    wanted = AGAINST if options.against is None else tuple(options.against)
    if not masked:
        return {}
    found: dict[str, Filler] = {}
    if "siren" in wanted:
        found["SIREN"] = network_filler(Baseline(load_baseline("baselines/siren")), seconds=options.seconds)
    if "meta" in wanted and (options.meta_start is not None or options.against is not None):
        if options.meta_start is None:
            raise UserError(
                "--against meta",
                found="no --meta-start",
                expected="its learned initialisation",
                hint="run nid-compare once, and give meta.safetensors of its run_dir",
            )
        config = load_baseline("baselines/meta")
        baseline = Baseline(config, read_start(config, options.meta_start))
        found[f"Meta + {_META_STEPS} steps"] = network_filler(baseline, steps=_META_STEPS)
    if "biharmonic" in wanted:
        found["biharmonic"] = classical_filler()
    return found


main = guarded("nid-inpaint", command)

if __name__ == "__main__":
    sys.exit(main())
