"""Steps recorded as a graph of the device: replayed they are the steps of the CPU, and nobody waits for them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nid_dist.graphs import Recorder
from tests.device.simulated import counted

SIM = torch.device("sim", 0)


def test_a_recording_does_the_same_on_other_values() -> None:
    state = torch.zeros(3, device=SIM)

    def call(given: Any) -> Any:
        state.add_(given["x"])
        return {"twice": 2 * state, "seen": given["x"].sum()}

    recorder = Recorder(SIM)
    recording = recorder.record(call, {"x": torch.ones(3, device=SIM)})
    assert state.cpu().tolist() == [0, 0, 0]  # recorded, not run
    for times in (1, 2, 3):
        with counted() as waits:
            found = recording.replay({"x": torch.full((3,), 5.0, device=SIM)})
        assert not waits and found["twice"].cpu().tolist() == [10.0 * times] * 3 and found["seen"].item() == 15


@pytest.mark.parametrize("forbidden", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.cpu(), torch.nonzero])
def test_what_waits_cannot_be_recorded(forbidden: Callable[[torch.Tensor], Any]) -> None:
    def call(given: Any) -> Any:
        forbidden(given["x"])
        return {}

    with pytest.raises(RuntimeError, match="not permitted"):
        Recorder(SIM).record(call, {"x": torch.ones(3, device=SIM)})
    torch.ones(3, device=SIM).sum().item()  # afterwards all is as before
