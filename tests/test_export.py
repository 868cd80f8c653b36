"""Exports: the same model anywhere, from what a training wrote, and a clear refusal of anything else."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

import nid_dist
from nid_dist.errors import UserError
from nid_dist.export import export, load
from nid_dist.model import Model
from nid_dist.training.run import train
from tests.tiny import tiny


def same(one: Model, other: Model) -> bool:
    values = torch.rand(3, len(one.coords), one.channels)
    outputs = [model.dictionary(model.encode(values), model.coords) for model in (one, other)]
    return torch.equal(*outputs) and all(
        torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items()
    )


@pytest.fixture
def exported(run: Path, tmp_path: Path) -> Path:
    return export(load(run), tmp_path / "exported")


def test_export_of_a_run_is_the_run_s_model(run: Path, exported: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == ["config.yaml", "model.json", "model.safetensors"]
    assert list(exported.parent.iterdir()) == [exported]
    assert same(load(run), load(exported))
    assert same(load(exported), load(export(load(exported), exported.parent / "again")))


def test_a_loaded_model_is_frozen(exported: Path) -> None:
    model = nid_dist.load(str(exported))
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())


class Draws(TorchFunctionMode):
    """Counts what is filled with random numbers."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.Tensor.normal_, torch.Tensor.uniform_)
        return func(*args, **(kwargs or {}))


def test_what_is_loaded_is_not_drawn_before(run: Path, exported: Path) -> None:
    with Draws() as draws:
        for path in (run, exported):
            load(path)
        assert not draws.count
        load(run).dictionary.trunk.layers[0].weight.data.normal_()
        assert draws.count == 1


@pytest.mark.parametrize("kind", ["light", "conv", "resnet", "codebook", "none"])
@pytest.mark.parametrize("layers", [1, 2])
def test_every_kind_of_model_round_trips(images: Path, tmp_path: Path, kind: str, layers: int) -> None:
    overrides = [f"coding.gate={{kind: {kind}, width: 4}}", f"dictionary.private_layers={layers}", "training.steps=2"]
    trainer = train(tiny(images, tmp_path / "run", *overrides, "coding.phases=[{mode: solve}]", "signals.colour=grey"))
    model = load(export(load(tmp_path / "run"), tmp_path / "exported"))
    trained = trainer.model.state_dict()
    assert trained.keys() == model.state_dict().keys()
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())


def test_an_export_opens_without_a_process_group_or_deepspeed(exported: Path) -> None:
    script = (
        "import sys, nid_dist, torch\n"
        "assert 'torch' in sys.modules\n"
        f"model = nid_dist.load({str(exported)!r})\n"
        "code = model.encode(torch.rand(2, 64, 3))\n"
        "print(model.dictionary(code, model.coords).shape, torch.distributed.is_initialized())\n"
        "names = ('deepspeed', 'fairscale', 'mpi4py', 'torch.distributed.checkpoint', 'tensorboard')\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("torch.Size([2, 64, 3]) False\n[]\n", "")


def test_one_checkpoint_or_their_folder(run: Path) -> None:
    checkpoints = run / "checkpoints"
    newest, earlier = load(checkpoints / "step-00000060"), load(checkpoints / "step-00000020")
    assert same(load(run), newest) and same(load(checkpoints), newest)
    assert not same(newest, earlier)


def test_an_abandoned_checkpoint_can_still_be_read(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "abandoned").mkdir()
    (copy / "checkpoints" / "step-00000060").rename(copy / "abandoned" / "step-00000060")
    assert same(load(copy / "abandoned" / "step-00000060"), load(run))


def test_relative_paths(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run / "checkpoints" / "step-00000060")
    assert same(load("."), load(run)) and same(load("../.."), load(run))


def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shard = next((copy / "checkpoints" / "step-00000060").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x00\x01")
    with pytest.warns(UserWarning, match="step-00000060.*passed over"):
        model = load(copy)
    assert same(model, load(run / "checkpoints" / "step-00000040"))
    with pytest.raises(UserError, match="step-00000060"):
        load(copy / "checkpoints" / "step-00000060")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def edit(path: Path, **facts: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: flip(folder / "model.safetensors"), "other bytes than were exported"),
        (lambda folder: (folder / "model.safetensors").unlink(), "a damaged export"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "other bytes than were exported"),
        (lambda folder: (folder / "model.json").unlink(), "a damaged export"),
        (lambda folder: (folder / "model.json").write_text("{"), "a damaged export"),
        (lambda folder: (folder / "model.json").write_text("[]"), "a damaged export"),
        (lambda folder: (folder / "model.json").write_bytes(b"\xff"), "a damaged export"),
        (lambda folder: edit(folder / "model.json", format=99), "format 99"),
        (lambda folder: edit(folder / "model.json", channels=1), "a damaged export"),
        (lambda folder: edit(folder / "model.json", grid=[8]), "a damaged export"),
        (lambda folder: (folder / "config.yaml").unlink(), "no such file"),
        (lambda folder: (folder / "config.yaml").write_text("dictionary: {expert: 3}"), "expert"),
        (lambda folder: (folder / "config.yaml").write_text("dictionary: {experts: 16}"), "found"),
    ],
)
def test_damaged_exports_are_refused(exported: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(exported)
    with pytest.raises(UserError, match=message) as caught:
        load(exported)
    assert str(exported) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "{", '{"channels": 3}', "[]"])
def test_a_run_without_its_facts_is_refused(run: Path, tmp_path: Path, content: str | None) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "model.json").unlink()
    if content is not None:
        (copy / "model.json").write_text(content)
    with pytest.raises(UserError, match=r"model.json: found a missing or damaged file"):
        load(copy)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    for name, message in {
        ".": "no model",
        "nowhere": "found nothing",
        "file": "no model",
        "empty": "config.yaml",
    }.items():
        with pytest.raises(UserError, match=message):
            load(tmp_path / name)


def test_a_run_before_its_first_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no checkpoint"):
        load(tmp_path / "run")


def test_nothing_is_overwritten_and_nothing_is_left_behind(exported: Path, tmp_path: Path) -> None:
    model = load(exported)
    before = {path: path.read_bytes() for path in exported.iterdir()}
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    for path in (exported, tmp_path / "empty", tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(UserError):
            export(model, path)
    assert {path: path.read_bytes() for path in exported.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "exported", "file"]
