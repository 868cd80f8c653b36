"""Steps recorded as a graph of the device: replayed they are the steps of the CPU, and nobody waits for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nid_dist.config import Config, load_config
from nid_dist.errors import UserError
from nid_dist.graphs import Recorder
from nid_dist.training import losses
from nid_dist.training.run import train
from nid_dist.training.trainer import Trainer
from tests.cli.test_reconstruct import SIZES as SHAPES
from tests.device.same import assert_same, read_log
from tests.device.simulated import counted, launched
from tests.device.suite_training import MODES
from tests.tasks.video.decomposition.conftest import configured
from tests.tiny import tiny
from tests.tiny_ct import tiny_ct

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


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the host waits in each step to come, and between."""
    found: list[int] = []
    plain = Trainer._step

    def step(self: Trainer, *args: Any) -> None:
        with counted() as waits:
            plain(self, *args)
        found.append(sum(waits.values()))

    monkeypatch.setattr(Trainer, "_step", step)
    return found


def assert_replayed(make: Callable[[Path, str], Config], folder: Path, waits: list[int], kinds: int) -> None:
    """A training of ten steps whose kinds are recorded is the one whose steps are launched, and does not wait for them.

    To record a kind is to wait once; other than that, no step waits.
    """
    state, log = {}, {}
    for graphs in ("true", "false"):
        trainer = train(make(folder / graphs, f"parallel.cuda_graphs={graphs}"))
        state[graphs] = {name: value.cpu() for name, value in trainer.model.state_dict().items()}
        log[graphs] = read_log(folder / graphs)
        recordings = list(trainer._steps._recordings.values())
        assert all(recordings) and len(recordings) == (kinds if graphs == "true" else 0), trainer._steps.warnings
        # The first step of a phase may set things up, and to record is to wait.
        assert len(waits) == 10 and sum(wait > 0 for wait in waits) <= 2 * kinds, waits
        waits.clear()
    phases = ("ms/", "trace")
    for one, other in zip(log["true"], log["false"], strict=True):
        alike = [key for key in one if not key.startswith(phases)]
        assert_same({key: one[key] for key in alike}, {key: other[key] for key in alike}, "log", 0.0)
    for name, value in state["true"].items():
        assert torch.equal(value, state["false"][name]), name


KINDS = {
    **{
        f"{mode}, {gate}": [MODES[mode], f"coding.gate={{kind: {gate}, width: 12}}"]
        for mode in MODES
        for gate in ("light", "unrolled")
    },
    "solve, pursuit": [MODES["solve"], "coding.gate={kind: pursuit, iterations: 2}"],
    "several pieces": [MODES["solve"], "coding.gate.width=12", "optimizer.accumulation=2"],
    "coordinates are drawn": [MODES["gate"], "coding.gate.width=12", "training.coordinates=20"],
    "a schedule": [MODES["gate"], "coding.gate.width=12", "optimizer.warmup_steps=3", "coding.warmup_steps=5"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_steps_on_images(images: Path, tmp_path: Path, kind: str, waits: list[int]) -> None:
    given = [*KINDS[kind], "training.steps=10", "logging.log_every=5", "parallel.device=sim"]
    kinds = 2 if kind.startswith(("distill", "a schedule")) else 1
    assert_replayed(lambda run, graphs: tiny(images, run, *given, graphs), tmp_path, waits, kinds)


def test_steps_on_scans(tmp_path: Path, waits: list[int]) -> None:
    given = ["training.steps=10", "parallel.device=sim"]
    assert_replayed(lambda run, graphs: tiny_ct(run, *given, graphs), tmp_path, waits, 1)


def test_steps_on_shapes(tmp_path: Path, waits: list[int]) -> None:
    (tmp_path / "shapes.yaml").write_text(SHAPES)
    given = [
        "signals.augment=false",
        "signals.shapes=12",
        "training.steps=10",
        "training.batch=4",
        "parallel.device=sim",
    ]

    def make(run: Path, graphs: str) -> Config:
        return load_config(tmp_path / "shapes.yaml", [*given, graphs, f"logging.run_dir={run}"])

    assert_replayed(make, tmp_path, waits, 1)


@pytest.mark.parametrize("gate", ["codebook", "temporal"])
def test_steps_on_a_video(video_run: Path, tmp_path: Path, gate: str, waits: list[int]) -> None:
    given = [f"coding.gate.kind={gate}", "training.steps=10", "dictionary.width=16", "parallel.device=sim"]

    def make(run: Path, graphs: str) -> Config:
        return configured(video_run, *given, graphs, f"logging.run_dir={run}")

    assert_replayed(make, tmp_path, waits, 1)


def test_a_replayed_step_is_a_handful_of_launches(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, found = Trainer._step, []

    def step(self: Trainer, *args: Any) -> None:
        with launched() as operations:
            plain(self, *args)
        found.append(operations)

    monkeypatch.setattr(Trainer, "_step", step)
    given = [MODES["gate"], "coding.gate.width=12", "training.steps=6", "logging.log_every=100", "parallel.device=sim"]
    train(tiny(images, tmp_path / "run", *given))
    # The rates, the signals on their way, and the graph.
    assert sum(found[0].values()) > 200 and sum(found[-1].values()) <= 25, found[-1]


def test_what_cannot_be_recorded_is_launched_and_said(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = losses.data_loss
    monkeypatch.setattr(losses, "data_loss", lambda *given: plain(*given) + 0 * plain(*given).item())
    given = [MODES["gate"], "coding.gate.width=12", "training.steps=6", "parallel.device=sim"]
    trainer = train(tiny(images, tmp_path / "run", *given))
    said = [line for line in capsys.readouterr().err.splitlines() if "cannot be recorded" in line]
    assert trainer.step == 6 and len(said) == 1


@pytest.mark.parametrize("graphs", ["true", "false"])
def test_a_step_without_a_result_ends_the_training_at_the_next_log(
    images: Path, tmp_path: Path, graphs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, seen = Trainer._read_batches, []

    def batches(self: Trainer) -> Any:
        found = plain(self)
        if self.step == 4:
            seen.append({name: value.clone() for name, value in self.model.state_dict().items()})
            found[0].samples.values.fill_(torch.inf)
        if self.step > 4:
            # Nothing has changed since, in no step; and nobody was told.
            assert all(torch.equal(seen[0][name], value) for name, value in self.model.state_dict().items())
        return found

    monkeypatch.setattr(Trainer, "_read_batches", batches)
    given = [MODES["gate"], "coding.gate={kind: light, width: 12}", "training.steps=20", "logging.log_every=8"]
    more = ["training.checkpoint_every=2", f"parallel.cuda_graphs={graphs}", "parallel.device=sim"]
    with pytest.raises(UserError, match="step 5") as raised:
        train(tiny(images, tmp_path / "run", *given, *more))
    assert "step-00000004" in str(raised.value)
