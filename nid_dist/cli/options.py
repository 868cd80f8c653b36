"""Options that several commands have, and what can be wrong with their values."""

import argparse
import math
import shlex
import sys
from collections.abc import Mapping, Sequence

from nid_dist.errors import UserError


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add `--set`, which makes the list `overrides`."""
    parser.add_argument(
        "--set", dest="overrides", action="extend", nargs="+", default=[], metavar="section.key=value", help="override"
    )


def check_ranges(options: argparse.Namespace, ranges: Mapping[str, tuple[int | float, int | float]]) -> None:
    """Refuse numbers below the first or above the second of their option's range, and what is not finite.

    An option that the command lacks, or whose value is None, is not looked at.

    Raises:
        UserError: naming the option.
    """
    for name, (low, high) in ranges.items():
        value = getattr(options, name, None)
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            expected = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
            option = f"--{name.replace('_', '-')}"
            raise UserError(option, found=str(value), expected=expected, hint="choose such a number")


def words_of(program: str, arguments: Sequence[str] | None) -> str:
    """The command as it was given, to be recorded with what it wrote; None: the process's own arguments."""
    return shlex.join([*program.split(), *(sys.argv[1:] if arguments is None else arguments)])
