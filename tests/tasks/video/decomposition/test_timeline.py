"""Codes at any time."""

import numpy as np
import torch

from nid_dist.code import Code
from nid_dist.coding.gates.temporal import TemporalGate
from nid_dist.config.schema import Config
from nid_dist.model import Model
from nid_dist.tasks.video.decomposition.refinement import Background
from nid_dist.tasks.video.decomposition.timeline import Timeline


def model(kind: str) -> Model:
    values = {
        "signals": {"source": "video", "path": "v"},
        "dictionary": {"experts": 4, "width": 4, "encoding": {"features": 3}},
        "coding": {"support": 2, "gate": {"kind": kind, "width": 8}, "phases": [{"mode": "gate"}]},
    }
    return Model(Config.model_validate(values), channels=1, grid_shape=(3, 4), signals=5).requires_grad_(False)


def background() -> Background:
    """Codes of frames 0, 1 and 4 of five."""
    values = torch.tensor([[0.0, 1.0], [1.0, 1.0], [4.0, 0.0]])
    bias = torch.tensor([[0.0], [0.1], [0.4]])
    return Background([2, 0], Code(values, bias, torch.tensor([2, 0]).expand(3, 2)), 0.01)


TIMES = np.array([0.0, 0.1, 0.4])


def test_linear_between_frames() -> None:
    line = Timeline(model("codebook"), background(), TIMES, (0.0, 0.4))
    code = line.at([0.05, 0.1, 0.25, 0.4, -1.0, 9.0])
    expected = torch.tensor([[0.5, 1.0], [1.0, 1.0], [2.5, 0.5], [4.0, 0.0], [0.0, 1.0], [4.0, 0.0]])
    torch.testing.assert_close(code.values, expected)
    torch.testing.assert_close(code.bias[:, 0], torch.tensor([0.05, 0.1, 0.25, 0.4, 0.0, 0.4]))
    assert code.indices is not None and code.indices.tolist() == [[2, 0]] * 6


def test_one_frame() -> None:
    alone = Background([1], Code(torch.tensor([[2.0]]), torch.tensor([[0.5]]), torch.tensor([[1]])), 0.01)
    code = Timeline(model("codebook"), alone, np.array([0.3]), (0.0, 1.0)).at([0.0, 5.0])
    assert code.values.tolist() == [[2.0], [2.0]]


def test_a_temporal_gate_says_what_happens_between() -> None:
    """At the frames codes are the fitted ones; between them what was corrected is added to the gate's own."""
    made = model("temporal")
    gate = made.gate
    assert isinstance(gate, TemporalGate)
    line = Timeline(made, background(), TIMES, (0.0, 0.4))
    torch.testing.assert_close(line.at(TIMES.tolist()).values, background().code.values)
    ends = gate.at(torch.tensor([-0.5, 1.0])).logits[:, [2, 0]]
    corrected = (background().code.values[1:] - ends).mean(0)
    middle = gate.at(torch.tensor([0.25])).logits[:, [2, 0]] + corrected
    torch.testing.assert_close(line.at([0.25]).values, middle, rtol=1e-4, atol=1e-5)
