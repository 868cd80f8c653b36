"""Take a video apart that has been trained on; `python launch/decompose.py --help` lists the options."""

import sys
from pathlib import Path

# The clone's own code is what runs, installed or not, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nid_dist.cli.decompose import main

if __name__ == "__main__":
    sys.exit(main())
