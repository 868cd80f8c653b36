"""Which components are the background: a rule, applied to courses whose parts are known."""

from pathlib import Path

import torch

from nid_dist.code import Code
from nid_dist.export import load
from nid_dist.tasks.video.decomposition.components import ACTIVE, PRESENT, activations, background_experts
from nid_dist.tasks.video.decomposition.decompose import Decomposition
from nid_dist.tasks.video.task import VideoTask
from tests.tasks.video.decomposition.conftest import configured


def courses() -> torch.Tensor:
    """90 frames: the scene, a passer-by, the light, one that pauses for 40 frames, and noise."""
    time = torch.arange(90)
    active = torch.zeros(90, 6)
    active[:, 0] = 0.4
    active[20:30, 1] = 0.3
    active[:, 2] = 0.05 * torch.sin(time / 5)
    active[25:65, 3] = -0.3
    active[:, 4] = 0.9 * ACTIVE
    return active


def test_the_rule() -> None:
    """The light vanishes for some moments, yet is there in most frames; noise changes no pixel by a grey level."""
    assert background_experts(courses(), most=4) == [0, 2]


def test_the_cheapest_come_first_and_no_more_than_the_support() -> None:
    assert background_experts(courses()[:, [2, 1, 0]], most=4) == [0, 2]
    assert background_experts(courses()[:, [2, 1, 0]], most=1) == [0]


def test_the_share_is_what_is_said() -> None:
    frames = 50
    active = torch.zeros(frames, 3)
    active[: round(PRESENT * frames), 1] = 1
    active[: round(PRESENT * frames) - 1, 2] = 1
    assert background_experts(active, most=3) == [1]


def test_where_nothing_is_there_so_often_the_most_frequent_is_taken() -> None:
    active = torch.zeros(10, 3)
    active[:3, 1] = 1
    active[:4, 2] = 1
    assert background_experts(active, most=3) == [2]


def test_activations_are_in_the_frames_units(trained_clip: Path) -> None:
    model = load(trained_clip / "run")
    code = Code(torch.tensor([[2.0, -1.0]]), torch.zeros(1, 3), torch.tensor([[3, 1]]))
    atoms = model.dictionary.atoms(model.coords)
    found = activations(model, code)
    expected = torch.tensor([[0, -atoms[1].square().mean().sqrt(), 0, 2 * atoms[3].square().mean().sqrt()]])
    torch.testing.assert_close(found, expected)


def test_a_trained_background_is_its_first_component(trained_clip: Path) -> None:
    found = Decomposition(load(trained_clip / "run"), VideoTask(configured(trained_clip)), rounds=0)
    assert found.background.experts[0] == 0
