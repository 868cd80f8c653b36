"""The benchmark of a card, in small: on the simulated one its steps are recorded and replayed."""

import pytest
import torch

from nid_dist.benchmarks import gpu
from nid_dist.benchmarks.gpu.timing import TimeBox
from nid_dist.device import AUTO_VARIABLE
from tests.benchmarks.test_gpu import assert_all_measured, few_photographs, sizes  # noqa: F401
from tests.device import simulated  # noqa: F401  # registers the device


def test_every_section(sizes: gpu.Sizes, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv(AUTO_VARIABLE, "sim")
    recorded = []

    def replayed(case: gpu.steps.StepCase, box: TimeBox | None = None) -> object:
        recorded.append(found(case, box))
        return recorded[-1]

    found = gpu.steps._replayed
    monkeypatch.setattr(gpu.steps, "_replayed", replayed)
    figures, _ = gpu.measured(torch.device("sim", 0), sizes, 600.0)
    assert_all_measured(figures)
    assert recorded and None not in recorded
