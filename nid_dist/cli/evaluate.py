"""`nid-evaluate`: measure a trained dictionary on signals it was not trained on."""

import argparse
import sys
from collections.abc import Sequence

from nid_dist.cli.entry import add_device_option, chosen_device, guarded, make_out_folder, without_result
from nid_dist.cli.fit import RANGES, add_method_options, chosen_methods
from nid_dist.cli.judging import say_judged
from nid_dist.cli.options import check_ranges, words_of
from nid_dist.errors import UserError
from nid_dist.export import load
from nid_dist.files import expanded
from nid_dist.progress import track
from nid_dist.tasks.registry import files_of


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="nid-evaluate", description="Evaluate a dictionary on a split of its signals."
    )
    parser.add_argument("--dictionary", type=expanded, required=True, help="a run, a checkpoint or an export")
    parser.add_argument("--split", choices=["val", "test"], default="test", help="which signals (default test)")
    parser.add_argument("--out", type=expanded, required=True, help="a new folder for the table and pictures")
    parser.add_argument("--limit", type=int, help="at most so many signals")
    add_method_options(parser)
    add_device_option(parser)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    check_ranges(options, RANGES)
    device = chosen_device(options)
    model = load(options.dictionary, device=device.device)
    files = files_of(model.config, str(options.dictionary))
    methods = chosen_methods(options, model)
    signals = files.held_out(model.config, options.split)[: options.limit]
    if not signals:
        raise UserError(
            f"signals.{options.split} of {options.dictionary}",
            found=f"no {files.noun}",
            expected=f"{files.noun}s kept apart from training",
            hint=f"choose the other --split, train with signals.val or signals.test, or fit {files.noun}s with nid-fit",
        )
    make_out_folder(options.out, [getattr(model.config.signals, "path", None)])
    print(device)
    report = files.report(
        model,
        track(signals, "evaluating", f"{files.noun}s"),
        methods,
        options.out,
        command=words_of("nid-evaluate", arguments),
    )
    if report.rows:
        print(report.table.text())
        say_judged(report.judged, files.noun)
        print(f"wrote {options.out}: table.md, results.json, and a folder per {files.noun}")
        print(f"next: nid-export --dictionary {options.dictionary} --out DICTIONARY")
    return without_result("nid-evaluate", report.failed, len(signals))


main = guarded("nid-evaluate", command)

if __name__ == "__main__":
    sys.exit(main())
