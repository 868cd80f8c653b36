"""`nid-compare`: the dictionary's methods and the baselines on the same signals, in one table."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nid_dist.cli.entry import add_device_option, chosen_device, guarded, make_out_folder, without_result
from nid_dist.cli.options import add_overrides, words_of
from nid_dist.comparison.factory import KINDS, load_comparison
from nid_dist.comparison.runner import run
from nid_dist.config import find_config
from nid_dist.errors import UserError
from nid_dist.files import expanded, keep_apart
from nid_dist.memory import keep_freed_memory


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="nid-compare", description=f"Compare on the same signals: {', '.join(KINDS)}, as the configuration says."
    )
    parser.add_argument("--config", required=True, metavar="NAME|FILE", help="compare_images, ...; or a YAML file")
    parser.add_argument(
        "--input", type=expanded, nargs="+", help="your own signals; default: those kept apart for test"
    )
    parser.add_argument(
        "--out", type=expanded, help="a new folder for the results; default: `results-TASK` in run_dir, renewed"
    )
    add_overrides(parser)
    add_device_option(parser)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    path = find_config(options.config)
    comparison = load_comparison(path, options.overrides)
    out = Path(comparison.run_dir) / f"results-{comparison.task}" if options.out is None else options.out
    if options.out is not None:
        make_out_folder(out, options.input or [])
    keep_apart(expanded(comparison.run_dir), options.input or [], f"run_dir {comparison.run_dir}")
    for given in options.input or []:
        if not given.exists():
            raise UserError(f"--input {given}", found="nothing", expected="a file or a folder", hint="check the path")
    print(chosen_device(options), file=sys.stderr)
    keep_freed_memory()
    results = run(comparison, path, out, options.input, words_of("nid-compare", arguments))
    if results.rows:
        print(results.report.table.text())
        for heading, table in results.report.tables.items():
            print(f"\n{heading}\n\n{table.text()}")
        print(f"\nwrote {out}: table.md, results.json, {', '.join(results.files)}")
        if results.files:
            name, shows = next(iter(results.files.items()))
            print(f"next: look at {out / name} ({shows})")
    return without_result("nid-compare", results.failed, len(options.input or []) or 1)


main = guarded("nid-compare", command)

if __name__ == "__main__":
    sys.exit(main())
