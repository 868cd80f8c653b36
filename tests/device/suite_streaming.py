"""Commands wait for the device a number of times that does not grow with what they are given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nid_dist
from nid_dist.coding.method import Method
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.tasks.images.fit import fit_image
from nid_dist.tasks.images.inpainting import inpaint
from nid_dist.tasks.shapes.point_clouds import Cloud
from nid_dist.tasks.shapes.prepared import PreparedShapes
from nid_dist.tasks.shapes.surfaces import init_code, mesh_code
from nid_dist.tasks.video.decomposition.components import activations, background_experts, gate_codes
from nid_dist.tasks.video.decomposition.decompose import Decomposition
from nid_dist.tasks.video.task import VideoTask
from tests.device.simulated import counted
from tests.tiny import picture


def waits(call: Callable[[], Any]) -> int:
    with counted() as found:
        call()
    return found.total()


def image(side: int) -> np.ndarray:
    return (picture(9, side, side) / 255).astype(np.float32)


@pytest.mark.parametrize("method", ["ridge", "omp", "init"])
def test_more_patches_are_no_more_waits(run: Path, method: str) -> None:
    model, chosen = nid_dist.load(run, device="sim"), Method.of(method)

    def fitted(side: int) -> np.ndarray:
        return fit_image(model, image(side), [chosen], stride=4)[chosen.label].render()

    fitted(16)  # what is found out once
    assert waits(lambda: fitted(48)) <= waits(lambda: fitted(16))


@pytest.mark.parametrize("prior", [True, False])
def test_more_patches_to_inpaint_are_no_more_waits(run: Path, prior: bool) -> None:
    model = nid_dist.load(run, device="sim")

    def inpainted(side: int) -> np.ndarray:
        known = np.random.default_rng(0).random((side, side)) > 0.3
        return inpaint(model, image(side), known, prior=prior).render()

    inpainted(16)
    # Nor in blocks of patches, of which there are two on a CPU.
    assert waits(lambda: inpainted(80)) <= waits(lambda: inpainted(16)) + 4


def test_the_frames_of_a_decomposition_are_fetched_together(video_run: Path) -> None:
    model = nid_dist.load(video_run / "run", device="sim")
    task = VideoTask(model.config)
    assert waits(lambda: task.evaluate(model, World(Topology(4), device=model.device))) == 1
    assert waits(lambda: background_experts(activations(model, gate_codes(model, task)), model.support)) <= 4
    found = Decomposition(model, task)
    assert waits(lambda: list(found.at_frames())) == 1
    assert waits(lambda: list(found.at(25.0, (40, 50)))) == 2


def test_a_surface_is_fetched_level_by_level(chain: Path) -> None:
    model, source = nid_dist.load(chain / "run", device="sim"), PreparedShapes(chain / "prepared")
    points, normals = source.surface(0, 64, np.random.default_rng(0))
    code = init_code(model, Cloud(points.astype(float), normals.astype(float)))
    mesh_code(model, code, 32)
    assert waits(lambda: mesh_code(model, code, 64)) <= 2
