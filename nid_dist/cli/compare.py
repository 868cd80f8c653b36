"""`nid-compare`: the dictionary's methods and the baselines on the same signals, in one table."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from nid_dist.cli.entry import add_device_option, chosen_device, guarded, new_folder, without_result
from nid_dist.comparison.base import Request, Results
from nid_dist.comparison.factory import KINDS, load_comparison
from nid_dist.config import find_config
from nid_dist.errors import UserError
from nid_dist.evaluation.report import machine
from nid_dist.files import replacing, write_json
from nid_dist.memory import keep_freed_memory


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="nid-compare", description=f"Compare on the same signals: {', '.join(KINDS)}, as the configuration says."
    )
    parser.add_argument("--config", required=True, metavar="NAME|FILE", help="compare_images, ...; or a YAML file")
    parser.add_argument("--input", type=Path, nargs="+", help="your own signals; default: those kept apart for test")
    parser.add_argument(
        "--out", type=Path, help="a new folder for the results; default: `results-TASK` in run_dir, renewed"
    )
    parser.add_argument(
        "--set", dest="overrides", action="extend", nargs="+", default=[], metavar="section.key=value", help="override"
    )
    add_device_option(parser)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    path = find_config(options.config)
    kind, config = load_comparison(path, options.overrides)
    out = Path(config.run_dir) / f"results-{config.task}" if options.out is None else options.out
    if options.out is not None:
        new_folder(out)
    for own in options.input or []:
        if not own.exists():
            raise UserError(f"--input {own}", found="nothing", expected="a file or a folder", hint="check the path")
    print(chosen_device(options, everywhere=True), file=sys.stderr)
    keep_freed_memory()
    results = kind.run(config, Request(path, options.input, out))
    given = shlex.join(["nid-compare", *(sys.argv[1:] if arguments is None else arguments)])
    if results.rows:
        _write(results, out, given)
        print(results.table.text())
        for heading, table in results.tables.items():
            print(f"\n{heading}\n\n{table.text()}")
        print(f"\nwrote {out}: table.md, results.json, {', '.join(results.files)}")
        if results.files:
            name, shows = next(iter(results.files.items()))
            print(f"next: look at {out / name} ({shows})")
    return without_result("nid-compare", results.failed, len(options.input or []) or 1)


def _write(results: Results, out: Path, command: str) -> None:
    facts = machine()
    heads = [f"\n## {heading}\n\n{table.markdown()}\n" for heading, table in results.tables.items()]
    lost = "".join(f"\n- {reason}" for reason in results.failed.values())
    with replacing(out / "table.md") as temporary:
        words = ", ".join(f"{key} {value}" for key, value in facts.items())
        text = f"`{command}`\n\n{words}\n\n{results.table.markdown()}\n{''.join(heads)}"
        text += f"\nWithout result:\n{lost}\n" if lost else ""
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    write_json(
        out / "results.json",
        {"command": command, "machine": facts, **results.facts, "rows": results.rows, "failed": results.failed},
    )


main = guarded("nid-compare", command)

if __name__ == "__main__":
    sys.exit(main())
