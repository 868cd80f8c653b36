"""Batches on the device: the CPU's values, without a wait, whatever the task; those of a step have its shapes."""

from pathlib import Path

import pytest
import torch

from nid_dist.config import Config, load_config
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.samples import Batch
from nid_dist.tasks.base import Task
from nid_dist.tasks.registry import make_task
from tests.cli.test_reconstruct import SIZES as SHAPES
from tests.device.simulated import counted
from tests.tasks.audio import conftest as audio
from tests.tasks.video.decomposition.conftest import configured
from tests.tiny import tiny
from tests.tiny_ct import tiny_ct

SIM = torch.device("sim")
STEPS = 3


def world(task: Task, device: torch.device | None = None) -> World:
    return World(Topology(task.config.dictionary.experts), device=device)


def parts(batch: Batch) -> dict[str, torch.Tensor]:
    samples = batch.samples
    found = {"coords": samples.coords, "values": samples.values, "weights": samples.weights, "ids": batch.ids}
    return found | {"gate": batch.gate_input}


def assert_alike(config: Config, tolerance: float = 0.0) -> None:
    here, there = make_task(config), make_task(config)
    shapes = set()
    for step in range(STEPS):
        expected = parts(here.batch(step, 0, world(here)))
        with counted(uploads=True) as waits:
            found = parts(there.batch(step, 0, world(there, SIM)))
            there.prefetch(step + 1, world(there, SIM))
        assert not waits, waits
        for name, value in found.items():
            assert value.device.type == "sim", name
            torch.testing.assert_close(value.cpu(), expected[name], rtol=tolerance, atol=tolerance, msg=name)
        shapes.add(tuple(value.shape for value in found.values()))
    assert len(shapes) == 1


@pytest.mark.parametrize("given", [[], ["training.coordinates=20"], ["signals.colour=grey"], ["signals.short_side=20"]])
def test_patches(images: Path, tmp_path: Path, given: list[str]) -> None:
    assert_alike(tiny(images, tmp_path, "signals.augment=true", *given))


def test_whole_images(images: Path, tmp_path: Path) -> None:
    assert_alike(tiny(images, tmp_path, "signals.patch=null", "signals.stride=null", "signals.size=12"))


def test_windows_of_sounds(tmp_path: Path) -> None:
    assert_alike(audio.configured(tmp_path))


@pytest.mark.parametrize("given", [[], ["training.coordinates=null"], ["signals.video.missing_pixels=0.3"]])
def test_frames(video_run: Path, tmp_path: Path, given: list[str]) -> None:
    assert_alike(configured(video_run, f"logging.run_dir={tmp_path}", *given))


@pytest.mark.parametrize("given", [[], ["training.coordinates=100"]])
def test_images_and_scans_of_them(tmp_path: Path, given: list[str]) -> None:
    assert_alike(tiny_ct(tmp_path, *given))


def shapes(folder: Path, *given: str) -> Config:
    (folder / "shapes.yaml").write_text(SHAPES)
    return load_config(folder / "shapes.yaml", ["training.batch=6", f"logging.run_dir={folder / 'run'}", *given])


@pytest.mark.parametrize("gate", ["codebook", "pointnet"])
def test_procedural_shapes(tmp_path: Path, gate: str) -> None:
    given = ["signals.augment=false", "signals.shapes=12", f"coding.gate.kind={gate}"]
    assert_alike(shapes(tmp_path, *given), 1e-6)


@pytest.mark.parametrize(
    "given",
    [
        ["signals.augment=false"],
        ["signals.turn=20", "signals.near_surface=0.3"],
        ["signals.procedural=9", "signals.turn=20", "training.coordinates=60"],
    ],
)
@pytest.mark.parametrize("gate", ["none", "pointnet"])
def test_prepared_shapes(chain: Path, tmp_path: Path, given: list[str], gate: str) -> None:
    given = [f"signals.path={chain / 'prepared'}", f"coding.gate.kind={gate}", *given]
    assert_alike(shapes(tmp_path, *given), 1e-6)


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nid_dist.data.resident.room_for_data", lambda device: 100)


@pytest.mark.usefixtures("little_room")
def test_what_the_device_has_no_room_for(images: Path, video_run: Path, tmp_path: Path) -> None:
    assert_alike(tiny(images, tmp_path, "signals.augment=true"))
    assert_alike(audio.configured(tmp_path))
    assert_alike(configured(video_run, f"logging.run_dir={tmp_path}"))
    assert_alike(shapes(tmp_path, "signals.augment=false", "signals.shapes=12"), 1e-6)
