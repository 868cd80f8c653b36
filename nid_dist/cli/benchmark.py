"""`nid-benchmark`: measure speed, memory and quality; a table on stdout, one JSON object in a file."""

import argparse
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from nid_dist.benchmarks import (
    bad_inputs,
    ct,
    engines,
    exchange,
    faults,
    fit,
    gpu,
    load,
    precision,
    quality,
    scaling,
    shapes,
    simple,
    step,
    video,
)
from nid_dist.cli.entry import add_device_option, chosen_device, guarded
from nid_dist.cli.options import check_ranges, words_of
from nid_dist.errors import UserError
from nid_dist.evaluation.report import write_results
from nid_dist.files import expanded
from nid_dist.memory import keep_freed_memory

BENCHMARKS = {
    "step": step.run,
    "gpu": gpu.run,
    "faults": faults.run,
    "load": load.run,
    "quality": quality.run,
    "precision": precision.run,
    "exchange": exchange.run,
    "fit": fit.run,
    "scaling": scaling.run,
    "engines": engines.run,
    "shapes": shapes.run,
    "ct": ct.run,
    "video": video.run,
    "simple": simple.run,
    "bad-inputs": bad_inputs.run,
}


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="nid-benchmark", description="Measure nid_dist on this machine.")
    parser.add_argument("name", choices=sorted(BENCHMARKS), help="what to measure")
    parser.add_argument(
        "--json", type=expanded, required=True, help="where the figures go; the table goes beside it (.md)"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works; figures mean nothing")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=sorted(simple.jobs()),
        help="of simple: do these jobs alone; what --json says of the others stays",
    )
    parser.add_argument("--threads", type=int, help="CPU threads; default PyTorch's choice")
    add_device_option(parser)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    check_ranges(options, {"threads": (1, math.inf)})
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    _check_output(options.json)
    if options.only is not None and options.name != "simple":
        raise UserError("--only", found=f"it, of {options.name}", expected="it of simple alone", hint="leave it out")
    device = chosen_device(options)
    if options.name == "gpu":
        gpu.require_card()
    print(device, file=sys.stderr)
    keep_freed_memory()
    run = BENCHMARKS[options.name]
    if options.only is not None:
        run = partial(simple.run, only=options.only, before=simple.earlier_lines(options.json))
    figures, table = run(options.quick)
    facts, beside = {"name": options.name, "figures": figures}, options.json.with_suffix(".md")
    given = words_of("nid-benchmark", arguments)
    write_results(options.json, given, facts, table, title=options.name, beside=beside.name)
    print(table.text())
    print(f"wrote {options.json} and {beside}")
    return 0


def _check_output(path: Path) -> None:
    """Before minutes of measuring, not after."""
    if not path.parent.is_dir():
        raise UserError(f"--json {path}", found="no such folder", expected="an existing one", hint="make it")
    if path.is_dir() or path.suffix != ".json":
        found = "a folder" if path.is_dir() else f"the ending {path.suffix!r}"
        raise UserError(
            f"--json {path}", found=found, expected="a file name ending in .json", hint="choose such a name"
        )


main = guarded("nid-benchmark", command)

if __name__ == "__main__":
    sys.exit(main())
