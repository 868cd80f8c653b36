"""Trainings on the device are those of the CPU: in each mode, of each task, interrupted, exported and loaded."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import nid_dist
from nid_dist.config import Config, load_config
from nid_dist.export import export
from nid_dist.training.run import train
from tests.cli.test_reconstruct import SIZES as SHAPES
from tests.device import simulated  # noqa: F401  # registers the device
from tests.device.same import assert_same, assert_same_folders, read_log
from tests.tasks.audio import conftest as audio
from tests.tasks.video.decomposition.conftest import configured
from tests.tiny import tiny
from tests.tiny_ct import tiny_ct

Configured = Callable[..., Config]
MODES = {
    "gate": "coding.phases=[{mode: gate}]",
    "solve": "coding.phases=[{mode: solve}]",
    "distill": "coding.phases=[{mode: solve}, {mode: distill}]",
}


def losses_and_weights(config: Config) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """What is logged of a training, and what has become of the model."""
    trainer = train(config)
    assert trainer.model.device.type == torch.device(trainer.config.parallel.device).type
    state = {name: value.detach().cpu() for name, value in trainer.model.state_dict().items()}
    return read_log(Path(config.logging.run_dir)), state


def assert_alike(make: Callable[[str, Path], Config], folder: Path, tolerance: float = 1e-6) -> None:
    (log, state), (device_log, device_state) = (
        losses_and_weights(make(device, folder / device)) for device in ("cpu", "sim")
    )
    assert_same(log, device_log, "log", tolerance)
    for name, value in state.items():
        torch.testing.assert_close(device_state[name], value, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize(("gate", "mode"), [*itertools.product(("light", "unrolled"), MODES), ("pursuit", "solve")])
def test_a_training_on_images(images: Path, tmp_path: Path, mode: str, gate: str) -> None:
    # Three channels are normalised together: alone, a bias's gradient would be nothing but rounding.
    given = [MODES[mode], f"coding.gate={{kind: {gate}, width: 12}}", "training.steps=4", "optimizer.accumulation=2"]
    assert_alike(lambda device, run: tiny(images, run, *given, f"parallel.device={device}"), tmp_path)


@pytest.mark.parametrize("more", ["training.precision=bf16", "coding.gate.noisy=true", "coding.warmup_steps=2"])
def test_what_a_training_can_be_told_besides(images: Path, tmp_path: Path, more: str) -> None:
    given = [MODES["gate"], "coding.gate.width=12", "training.steps=3", more]
    if "noisy" in more or "bf16" in more:
        # The device has random numbers, and a rounding to half precision, of its own: that it runs is all.
        losses_and_weights(tiny(images, tmp_path / "run", *given, "parallel.device=sim"))
        return
    assert_alike(lambda device, run: tiny(images, run, *given, f"parallel.device={device}"), tmp_path)


def test_a_training_on_scans(tmp_path: Path) -> None:
    assert_alike(lambda device, run: tiny_ct(run, "training.steps=4", f"parallel.device={device}"), tmp_path)


def test_a_training_on_shapes(tmp_path: Path) -> None:
    (tmp_path / "shapes.yaml").write_text(SHAPES)
    few = ["signals.augment=false", "signals.shapes=12", "training.steps=3", "training.batch=4"]

    def make(device: str, run: Path) -> Config:
        given = [*few, f"parallel.device={device}", f"logging.run_dir={run}"]
        return load_config(tmp_path / "shapes.yaml", given)

    # Points are made on the device, in single precision: it is the draws that are equal.
    assert_alike(make, tmp_path, 1e-3)


@pytest.mark.parametrize("gate", ["codebook", "temporal"])
def test_a_training_on_a_video(video_run: Path, tmp_path: Path, gate: str) -> None:
    few = [f"coding.gate.kind={gate}", "training.steps=4", "dictionary.width=16"]

    def make(device: str, run: Path) -> Config:
        return configured(video_run, *few, f"parallel.device={device}", f"logging.run_dir={run}")

    assert_alike(make, tmp_path)


def test_a_training_on_sounds_and_a_fit(tmp_path: Path) -> None:
    def make(device: str, run: Path) -> Config:
        return audio.configured(run.parent, "training.steps=4", f"parallel.device={device}", f"logging.run_dir={run}")

    assert_alike(make, tmp_path)
    here, there = (nid_dist.load(tmp_path / "cpu", device=device) for device in ("cpu", "sim"))
    wave = audio.tones(100)
    for method in ("ridge", "omp"):
        assert abs(here.fit(wave, method).render() - there.fit(wave, method).render()).max() < 1e-5


def test_a_training_goes_on_after_a_checkpoint(images: Path, tmp_path: Path) -> None:
    few = ["training.steps=4", "training.checkpoint_every=2"]
    train(tiny(images, tmp_path / "whole", *few, "parallel.device=sim"))
    train(tiny(images, tmp_path / "parts", "training.steps=2", "parallel.device=sim"))
    # On another device, too: nothing in a checkpoint says where it was computed.
    for device in ("sim", "cpu"):
        trainer = train(
            tiny(
                images,
                tmp_path / "parts",
                "training.steps=4" if device == "sim" else "training.steps=6",
                f"parallel.device={device}",
            ),
            resume="auto",
        )
        assert trainer.step == (4 if device == "sim" else 6) and trainer.figures


def test_export_and_load(run: Path, tmp_path: Path) -> None:
    here, there = (nid_dist.load(run, device=device) for device in ("cpu", "sim"))
    assert {value.device.type for value in there.state_dict().values()} == {"sim"}
    assert_same_folders(export(here, tmp_path / "here"), export(there, tmp_path / "there"))
    again = nid_dist.load(tmp_path / "there", device="sim")
    values = torch.rand(2, len(here.coords), 3)
    assert torch.equal(again.encode(values.to("sim")).values.cpu(), here.encode(values).values)
