"""Prepare meshes for training: `python launch/prepare.py shapes --input DIR --layout shapenet-v2 --out DIR`."""

import sys
from pathlib import Path

# The clone's own code is what runs, installed or not, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nid_dist.cli.prepare import main

if __name__ == "__main__":
    sys.exit(main())
