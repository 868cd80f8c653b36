"""On a GPU: fixtures of other files, and algorithms that need not be deterministic.

NID_DIST_TEST_DEVICE names another device to try these tests on, such as cpu.
"""

import os
from collections.abc import Iterator

import pytest
import torch

from nid_dist.device import AUTO_VARIABLE
from tests.cli.test_decompose import video_run  # noqa: F401
from tests.cli.test_reconstruct import chain  # noqa: F401
from tests.tasks.conftest import folder  # noqa: F401


@pytest.fixture(scope="session")
def device() -> str:
    """That these tests are about."""
    return os.environ.get("NID_DIST_TEST_DEVICE", "cuda")


@pytest.fixture(autouse=True)
def any_algorithm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU has deterministic ones for a part of what is computed only; what a command says of devices is forgotten."""
    monkeypatch.setenv(AUTO_VARIABLE, "cpu")
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(True)
