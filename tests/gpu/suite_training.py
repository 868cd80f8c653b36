"""Trainings on a GPU: losses are the CPU's, recorded or not, in every precision; nobody waits; states travel."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import nid_dist
from nid_dist.benchmarks.gpu.trainings import OFF, Stepper
from nid_dist.config import Config, load_config
from nid_dist.export import export
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.setup import open_world
from nid_dist.training.run import train
from tests.cli.test_reconstruct import SIZES as SHAPES
from tests.device.same import read_log
from tests.tasks.video.decomposition.conftest import configured
from tests.tiny import tiny
from tests.tiny_ct import tiny_ct

STEPS = "training.steps=20"
MODES = {
    "gate": ["coding.phases=[{mode: gate}]", "coding.gate={kind: light, width: 12}"],
    "solve": ["coding.phases=[{mode: solve}]", "coding.gate={kind: unrolled, iterations: 3}"],
    "distill": ["coding.phases=[{mode: solve}, {mode: distill}]", "coding.gate={kind: unrolled, iterations: 3}"],
}
Configured = Callable[..., Config]


@pytest.fixture
def kinds(images: Path, video_run: Path, tmp_path: Path) -> dict[str, Configured]:
    """Trainings of every mode and task by name; each is given a folder for its run, and overrides."""
    (tmp_path / "shapes.yaml").write_text(SHAPES)
    shapes = ["signals.augment=false", "signals.shapes=12", "training.batch=4"]

    def of_shapes(run: Path, *given: str) -> Config:
        return load_config(tmp_path / "shapes.yaml", [*shapes, f"logging.run_dir={run}", *given])

    def of_video(run: Path, *given: str) -> Config:
        few = ["dictionary.width=16", "logging.log_every=1", f"logging.run_dir={run}"]
        return configured(video_run, *few, *given)

    def of_images(mode: str) -> Configured:
        return lambda run, *given: tiny(images, run, *MODES[mode], *given)

    def of_scans(run: Path, *given: str) -> Config:
        return tiny_ct(run, "logging.log_every=1", *given)

    return {mode: of_images(mode) for mode in MODES} | {"ct": of_scans, "shapes": of_shapes, "video": of_video}


def losses(config: Config) -> list[float]:
    train(config)
    return [line["loss"] for line in read_log(Path(config.logging.run_dir)) if line["event"] == "train"]


@pytest.mark.parametrize("name", [*MODES, "ct", "shapes", "video"])
def test_losses_are_those_of_the_cpu_recorded_or_not(
    name: str, kinds: dict[str, Configured], device: str, tmp_path: Path
) -> None:
    here = losses(kinds[name](tmp_path / "cpu", STEPS))
    found = [
        losses(kinds[name](tmp_path / graphs, STEPS, f"parallel.device={device}", f"parallel.cuda_graphs={graphs}"))
        for graphs in ("true", "false")
    ]
    assert len(here) == 20
    for there in found:
        assert there == pytest.approx(here, rel=1e-3)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("name", MODES)
def test_losses_in_fewer_bits_are_close(
    name: str, precision: str, kinds: dict[str, Configured], device: str, tmp_path: Path
) -> None:
    given = [STEPS, f"parallel.device={device}"]
    exact = losses(kinds[name](tmp_path / "fp32", *given))
    assert losses(kinds[name](tmp_path / precision, *given, f"training.precision={precision}")) == pytest.approx(
        exact, rel=0.2
    )


@contextmanager
def waits(device: str) -> Iterator[list[str]]:
    """What PyTorch says of the host's waits for a GPU inside; nothing on other devices."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if device.startswith("cuda"):
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            if device.startswith("cuda"):
                torch.cuda.set_sync_debug_mode("default")
    found += [f"{each.filename}:{each.lineno}" for each in told if "synchron" in str(each.message)]


@pytest.mark.parametrize("graphs", ["true", "false"])
@pytest.mark.parametrize("name", [*MODES, "ct", "shapes", "video"])
def test_nobody_waits_in_a_step(
    name: str, graphs: str, kinds: dict[str, Configured], device: str, tmp_path: Path
) -> None:
    given = [f"parallel.device={device}", f"parallel.cuda_graphs={graphs}", "logging.log_every=1000"]
    config = kinds[name](tmp_path / "run", *OFF, *given)
    with open_world(config, Launch()) as world:
        trainer = Stepper(config, world)
        trainer.initialise()
        trainer.take(8)
        with waits(device) as found:
            trainer.take(10)
    # Images wait for nothing between two logs, other tasks once a step at most.
    assert len(found) <= (0 if name in MODES else 10), sorted(set(found))


def test_a_run_goes_on_elsewhere_and_its_export_is_the_same(images: Path, device: str, tmp_path: Path) -> None:
    for steps, where in ((4, device), (6, "cpu"), (8, device)):
        given = [f"training.steps={steps}", "training.checkpoint_every=2", f"parallel.device={where}"]
        trainer = train(tiny(images, tmp_path / "run", *given), resume=None if steps == 4 else "auto")
        assert trainer.step == steps and trainer.figures
    here, there = (nid_dist.load(tmp_path / "run", device=where) for where in ("cpu", device))
    assert {value.device.type for value in there.state_dict().values()} == {torch.device(device).type}
    again = nid_dist.load(export(there, tmp_path / "export"), device=device)
    values = torch.rand(2, len(here.coords), 3)
    expected = here.encode(values)
    for model in (there, again):
        found = model.encode(values.to(model.device))
        torch.testing.assert_close(found.values.cpu(), expected.values, rtol=1e-3, atol=1e-4)
