"""A seed decides everything, a resumed run is the run that never stopped, and a bad end leaves the good state."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nid_dist.checkpoints.checkpoint import load
from nid_dist.config.schema import Config
from nid_dist.errors import UserError
from nid_dist.parallel.world import World
from nid_dist.tasks.images.task import ImageTask
from nid_dist.training import step as steps_module
from nid_dist.training.run import train
from nid_dist.training.trainer import Trainer
from tests.tiny import tiny, write_pictures


def log(run: Path, event: str = "train") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def everything(trainer: Trainer) -> dict[str, Tensor]:
    model = {f"model.{name}": value for name, value in trainer.model.state_dict().items()}
    return model | {f"optimizer.{name}": value for name, value in trainer.engine.state().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def steps(images: Path, run: Path, *overrides: str, resume: str | None = None) -> Trainer:
    return train(tiny(images, run, *overrides), resume)


PHASES = {
    "one": "[{mode: solve}]",
    "border at the checkpoint": "[{mode: solve, share: 0.5}, {mode: distill, share: 0.5}]",
    "border elsewhere": "[{mode: gate, share: 0.3}, {mode: solve, share: 0.4}, {mode: distill, share: 0.3}]",
    "gate": "[{mode: gate}]",
}


@pytest.mark.parametrize(
    ("kind", "phases"),
    [(kind, phases) for kind in ("light", "unrolled") for phases in PHASES]
    + [(kind, "border elsewhere") for kind in ("conv", "resnet", "codebook")]
    + [("pursuit", "one")],
)
def test_same_seed_same_run_and_resumed_bit_for_bit(images: Path, tmp_path: Path, kind: str, phases: str) -> None:
    common = [f"coding.gate={{kind: {kind}, width: 8, iterations: 3, noisy: true}}", f"coding.phases={PHASES[phases]}"]
    common += [
        "training.steps=8",
        "training.checkpoint_every=4",
        "training.batch=8",
        "coding.warmup_steps=2",
        "training.coordinates=40",
    ]
    common += ["optimizer.warmup_steps=3", "optimizer.name=adamw", "optimizer.weight_decay=0.01"]
    straight = steps(images, tmp_path / "straight", *common)
    again = steps(images, tmp_path / "again", *common, "training.eval_every=3")  # looking must not change anything
    start = tmp_path / "straight" / "checkpoints" / "step-00000004"
    resumed = steps(images, tmp_path / "resumed", *common, resume=str(start))
    assert (straight.step, again.step, resumed.step) == (8, 8, 8)
    assert_same(everything(straight), everything(again))
    assert_same(everything(straight), everything(resumed))
    assert [line["step"] for line in log(tmp_path / "resumed")] == list(range(5, 9))
    tail = [{key: line[key] for key in ("loss", "gradient_norm", "lr")} for line in log(tmp_path / "straight")[4:]]
    assert [{key: line[key] for key in tail[0]} for line in log(tmp_path / "resumed")] == tail


def test_another_seed_is_another_run_and_a_huge_one_is_fine(images: Path, tmp_path: Path) -> None:
    losses = []
    for seed in (0, 1, 10**30):
        steps(images, tmp_path / str(seed), f"training.seed={seed}", "training.steps=2", "coding.gate.noisy=true")
        losses.append(log(tmp_path / str(seed))[-1]["loss"])
    assert len(set(losses)) == 3


def test_the_saved_gate_knows_the_saved_dictionary(images: Path, tmp_path: Path) -> None:
    """An unrolled gate holds a copy of the atoms: it must be that of the dictionary beside it."""
    run = tmp_path / "run"
    overrides = ["coding.gate={kind: unrolled, iterations: 3}", "coding.phases=[{mode: solve}]", "optimizer.lr=1e-2"]
    trainer = steps(images, run, *overrides, "training.steps=6", "training.checkpoint_every=3")
    for step in (3, 6):
        state = {f"model.{name}": value.clone() for name, value in trainer.model.state_dict().items()}
        load(run / "checkpoints" / f"step-{step:08d}", state, partial=True)
        trainer.model.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
        atoms = trainer.model.dictionary.atoms(trainer.model.coords).detach()
        centred = (atoms - atoms.mean(1, keepdim=True)).flatten(1)
        directions = torch.nn.functional.normalize(centred, dim=1)
        torch.testing.assert_close(state["model.gate.synthesis"], directions, atol=1e-5, rtol=1e-4)


def test_what_the_gate_learned_stays_from_one_of_its_phases_to_the_next(images: Path, tmp_path: Path) -> None:
    common = ["coding.gate={kind: unrolled, iterations: 3}", "training.steps=8", "optimizer.schedule=constant"]
    one = steps(images, tmp_path / "one", *common, "coding.phases=[{mode: distill}]")
    two = steps(images, tmp_path / "two", *common, "coding.phases=[{mode: distill}, {mode: distill}]")
    assert_same(everything(one), everything(two))


def test_distillation_leaves_the_dictionary_alone(images: Path, tmp_path: Path) -> None:
    phases = "coding.phases=[{mode: solve}, {mode: distill}]"
    trainer = steps(images, tmp_path / "run", phases, "training.steps=8", "training.checkpoint_every=4")
    state = {f"model.{name}": value.clone() for name, value in trainer.model.state_dict().items()}
    load(tmp_path / "run" / "checkpoints" / "step-00000004", state, partial=True)
    moved = {
        name for name, value in trainer.model.state_dict().items() if not torch.equal(value, state[f"model.{name}"])
    }
    # The prior is of all that was trained, and learned at the end.
    assert moved and all(name.startswith(("gate.", "stored_prior.")) for name in moved)


def test_a_finished_run_does_nothing_more(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    steps(images, run, "training.steps=3")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    trainer = steps(images, run, "training.steps=3", resume="auto")
    assert (trainer.step, trainer.figures, trainer.stopped_by) == (3, {}, None)
    for name in ("model.json", "placement.json"):
        del before[run / name]  # said again, with the same content
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_finished_run_can_be_trained_on(images: Path, tmp_path: Path) -> None:
    steps(images, tmp_path / "run", "training.steps=3")
    trainer = steps(images, tmp_path / "run", "training.steps=5", resume="auto")
    assert trainer.step == 5 and trainer.figures
    assert [line["step"] for line in log(tmp_path / "run")] == [1, 2, 3, 4, 5]
    assert (tmp_path / "run" / "config.1.yaml").is_file()


def test_going_back_sets_the_later_checkpoints_aside(images: Path, tmp_path: Path) -> None:
    run, common = tmp_path / "run", ["training.steps=6", "training.checkpoint_every=2"]
    straight = steps(images, run, *common)
    state = {name: value.clone() for name, value in everything(straight).items()}
    trainer = steps(images, run, *common, resume=str(run / "checkpoints" / "step-00000002"))
    assert_same(everything(trainer), state)
    assert sorted(path.name for path in (run / "abandoned").iterdir()) == ["step-00000004", "step-00000006"]
    assert len(list((run / "checkpoints").iterdir())) == 3


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(images: Path, tmp_path: Path) -> None:
    run, common = tmp_path / "run", ["training.steps=6", "training.checkpoint_every=2"]
    straight = steps(images, run, *common)
    shard = next((run / "checkpoints" / "step-00000006").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.warns(UserWarning, match="step-00000006.*passed over"):
        trainer = steps(images, run, *common, resume="auto")
    assert_same(everything(trainer), everything(straight))


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("dictionary.experts=16", "dictionary.experts"),
        ("dictionary.width=8", "dictionary.width"),
        ("coding.gate.kind=conv", "coding.gate"),
        ("signals.colour=grey", "signals.colour"),
    ],
)
def test_a_checkpoint_of_another_configuration_changes_nothing(
    images: Path, tmp_path: Path, override: str, named: str
) -> None:
    run = tmp_path / "run"
    steps(images, run, "training.steps=2")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=named):
        steps(images, run, "training.steps=4", override, resume="auto")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def spoiled(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """From a step on, the loss of mode `solve` is not a number."""
    original, calls = steps_module.LOSSES["solve"], []

    def loss(*args: Any) -> Any:
        calls.append(1)
        made = original(*args)
        factor = math.nan if len(calls) > at else 1.0
        return type(made)(made.total * factor, made.code, made.parts)

    monkeypatch.setitem(steps_module.LOSSES, "solve", loss)


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    spoiled(monkeypatch, at=5)
    with pytest.raises(UserError) as caught:
        steps(images, run, "coding.phases=[{mode: solve}]", "training.steps=9", "training.checkpoint_every=2")
    text = str(caught.value)
    assert text.startswith("training step 6: found loss nan") and "step-00000004" in text and "optimizer.lr" in text
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]
    assert log(run, "warning")[0]["step"] == 5


def test_without_a_checkpoint_it_says_so(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled(monkeypatch, at=0)
    with pytest.raises(UserError, match="training step 1: .*no checkpoint was written yet"):
        steps(images, tmp_path / "run", "coding.phases=[{mode: solve}]")


def test_an_image_that_vanishes_costs_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, run = write_pictures(tmp_path / "images"), tmp_path / "run"
    original = ImageTask.batch

    def batch(self: ImageTask, step: int, micro: int, world: World) -> Any:
        if step == 3:
            raise UserError("b.png", found="no such file", expected="an image", hint="put it back")
        return original(self, step, micro, world)

    monkeypatch.setattr(ImageTask, "batch", batch)
    with pytest.raises(UserError, match=r"b.png: found no such file"):
        steps(images, run)
    assert "step-00000003" in capsys.readouterr().err
    monkeypatch.undo()
    trainer = steps(images, run, resume="auto")
    straight = steps(images, tmp_path / "straight")
    assert_same(everything(trainer), everything(straight))


def test_an_unsolvable_first_step_names_its_own_hint(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def singular(*_: Any, **__: Any) -> Any:
        raise UserError("ridge, signal 0", found="a singular system", expected="another", hint="raise coding.ridge")

    monkeypatch.setattr(steps_module, "prepare", singular)
    with pytest.raises(UserError, match=r"^ridge, signal 0: .*raise coding.ridge$"):
        steps(images, tmp_path / "run")


@pytest.mark.parametrize("mode", ["gate", "solve", "distill"])
def test_an_exploding_rate_ends_in_one_clear_error_or_in_finite_numbers(
    images: Path, tmp_path: Path, mode: str
) -> None:
    run = tmp_path / "run"
    overrides = [f"coding.phases=[{{mode: {mode}}}]", "optimizer.lr=1e30", "optimizer.gate_lr=1e30"]
    overrides += ["optimizer.trunk_lr=1e30", "optimizer.clip_norm=null", "training.checkpoint_every=1"]
    with pytest.raises(UserError, match="training step .*finite numbers.*likely cause is a learning rate"):
        steps(images, run, *overrides)
    for path in (run / "checkpoints").iterdir():
        state = {f"model.{name}": value for name, value in fresh(tiny(images, run, *overrides)).items()}
        load(path, state, partial=True)
        assert all(bool(value.isfinite().all()) for value in state.values())


def fresh(config: Config) -> dict[str, Tensor]:
    return ImageTask(config).model().state_dict()
