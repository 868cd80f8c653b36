"""Train a dictionary: `python launch/train.py --config FILE [--single-process] [--set section.key=value]`."""

import sys
from pathlib import Path

# The clone's own code is what runs, installed or not, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nid_dist import cli

cli.begin()

from nid_dist.cli.train import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
