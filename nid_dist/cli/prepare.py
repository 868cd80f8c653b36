"""`nid-prepare`: make training data of raw data, once."""

import argparse
import sys
from collections.abc import Sequence

from nid_dist.cli import prepare_shapes
from nid_dist.cli.entry import RankZeroArgumentParser, guarded


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = RankZeroArgumentParser(prog="nid-prepare", description="Prepare data for training.")
    kinds = parser.add_subparsers(dest="kind", required=True, parser_class=RankZeroArgumentParser)
    prepare_shapes.add_shapes(kinds.add_parser("shapes", help="meshes to signed distances, in parallel"))
    prepare_shapes.add_furniture(
        kinds.add_parser("furniture", help="meshes of procedural chairs, tables and lamps, in ShapeNet's layout")
    )
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    run = {"shapes": prepare_shapes.prepare_shapes, "furniture": prepare_shapes.make_furniture}
    return run[options.kind](options)


main = guarded("nid-prepare", command)

if __name__ == "__main__":
    sys.exit(main())
