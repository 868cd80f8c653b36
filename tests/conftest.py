"""What holds for every test: shapes and types are checked, one thread, deterministic, a fresh seed."""

import os
import random
import sys
from pathlib import Path

# Before PyTorch is loaded, so that processes which a test starts inherit it.
os.environ["OMP_NUM_THREADS"] = "1"
# MKL's AVX-512 kernels round a row differently in batches of different sizes. The first steps of a gate multiply that:
# where a gradient is nothing but rounding Adam makes whole steps of it, and equal logits change places in the top-k.
# What is compared here is one process with several, not one kernel with another.
os.environ["MKL_ENABLE_INSTRUCTIONS"] = "AVX2"

# On a machine with a GPU, too: several processes cannot share it, and figures are compared with the CPU's.
os.environ["NID_DIST_DEVICE"] = "cpu"

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

# A module imported before the hook would go unchecked without a word.
if any(name.partition(".")[0] == "nid_dist" for name in sys.modules):
    raise RuntimeError("nid_dist was imported before tests/conftest.py could install the type checks")
install_import_hook("nid_dist", "beartype.beartype")

# Imported from here on, hence after the hook: the fixtures `images`, `run` and `ct_run`.
pytest_plugins = ["tests.tiny", "tests.tiny_ct"]

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


@pytest.fixture(autouse=True)
def _fresh_seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def nid_data() -> Path | None:
    """The folder with the users' own data sets that NID_DATA names, or None where it names none."""
    folder = os.environ.get("NID_DATA")
    return Path(folder) if folder else None
