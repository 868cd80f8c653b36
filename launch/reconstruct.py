"""A surface from a sparse point cloud: `python launch/reconstruct.py --dictionary RUN --points FILE --out DIR`."""

import sys
from pathlib import Path

# The clone's own code is what runs, installed or not, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nid_dist.cli.reconstruct import main

if __name__ == "__main__":
    sys.exit(main())
