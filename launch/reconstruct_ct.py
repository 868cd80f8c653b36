"""Reconstruct a slice: `python launch/reconstruct_ct.py --dictionary RUN --sinogram FILE --geometry F --out DIR`."""

import sys
from pathlib import Path

# The clone's own code is what runs, installed or not, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nid_dist.cli.reconstruct_ct import main

if __name__ == "__main__":
    sys.exit(main())
