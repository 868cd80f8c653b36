"""Plan a run on paper: `python launch/plan.py --config FILE --nodes N --gpus-per-node G [--set section.key=value]`."""

import sys
from pathlib import Path

# The clone's own code is what runs, installed or not, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nid_dist.cli.plan import main

if __name__ == "__main__":
    sys.exit(main())
