"""`nid-export`: a trained dictionary as one folder that `nid_dist.load` opens."""

import argparse
import sys
from collections.abc import Sequence

from nid_dist.cli.entry import add_device_option, chosen_device, guarded, in_options
from nid_dist.export import export, load
from nid_dist.files import expanded


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="nid-export", description="Export a trained dictionary.")
    parser.add_argument("--dictionary", type=expanded, required=True, help="a run or a checkpoint")
    parser.add_argument("--out", type=expanded, required=True, help="a new folder")
    add_device_option(parser)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    with in_options(another="another --out"):
        folder = export(load(options.dictionary, device=chosen_device(options).device), options.out)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"wrote {folder}: model.safetensors, config.yaml, model.json ({size / 2**20:.1f} MiB)")
    print(f"next: nid-fit --dictionary {folder} --input IMAGES --out DIR, or in Python nid_dist.load({str(folder)!r})")
    return 0


main = guarded("nid-export", command)

if __name__ == "__main__":
    sys.exit(main())
