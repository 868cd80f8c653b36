"""What version 0.1 wrote is read by this one: the same meaning, the same numbers (see the fixture's README.md)."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from nid_dist.code import Code, load_codes
from nid_dist.comparison.factory import load_comparison
from nid_dist.config import load_config
from nid_dist.export import load
from nid_dist.tasks.registry import make_task
from nid_dist.training.run import train

STORED = Path(__file__).parent / "fixtures" / "version_0_1"
EXPECTED: dict[str, Any] = json.loads((STORED / "expected.json").read_text())
RUNS = {"images": "images", "video": "video", "ct": "ct", "shapes": "shapes"}
CONFIGS = [path for path in sorted((STORED / "configs").rglob("*.yaml")) if path.parent.name in ("configs", "large")]


def same(given: Any, read: Any) -> bool:
    """Whether all that a file says is what was read of it."""
    if isinstance(given, dict):
        return isinstance(read, dict) and all(same(value, read[key]) for key, value in given.items())
    if isinstance(given, list):
        return len(given) == len(read) and all(same(*pair) for pair in zip(given, read, strict=True))
    return bool(given == read or (isinstance(read, float) and float(given) == read))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_means_the_same(path: Path) -> None:
    given = yaml.safe_load(path.read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if path.stem.startswith("compare_"):
            read = load_comparison(path).model_dump(mode="json")
        else:
            read = load_config(path).model_dump(mode="json")
    assert same(given, read)


@pytest.mark.parametrize(("folder", "task"), RUNS.items())
def test_the_configuration_of_a_run_holds_the_keys_of_all_tasks(folder: str, task: str) -> None:
    path = STORED / "runs" / folder / "config.yaml"
    given = yaml.safe_load(path.read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what has its default is left out silently
        config = load_config(path)
    read = config.model_dump(mode="json")
    assert config.task == task and len(read["signals"]) < len(given["signals"])
    given["signals"] = {key: value for key, value in given["signals"].items() if key in read["signals"]}
    assert same(given, read)


def close(found: Tensor, expected: dict[str, Any]) -> None:
    """Compare with shape, sums and first values that were stored."""
    assert list(found.shape) == expected["shape"]
    values = found.flatten().double()
    assert values.sum().item() == pytest.approx(expected["sum"], abs=1e-5 * expected["magnitudes"])
    assert values.abs().sum().item() == pytest.approx(expected["magnitudes"], rel=1e-5)
    largest = max(values.abs().max().item(), 1e-30)
    assert found.flatten()[:5].tolist() == pytest.approx(expected["first"], abs=1e-5 * largest)


@pytest.mark.parametrize("folder", EXPECTED["models"])
@torch.no_grad()
def test_a_model_gives_the_same_numbers(folder: str) -> None:
    model, expected = load(STORED / folder), EXPECTED["models"][folder]
    k, d = model.support, model.channels
    assert [list(model.grid_shape), d, model.signals, k, model.dictionary.num_experts] == [
        expected[name] for name in ("grid", "channels", "signals", "support", "experts")
    ]
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == expected["state"]
    code = Code(torch.linspace(-1, 1, k)[None], torch.zeros(1, d), torch.arange(k)[None])
    close(model.dictionary(code, model.coords), expected["values"])
    assert model.config.coding.gate.kind == expected["gate"]["kind"]
    pointnet = model.config.coding.gate.kind == "pointnet"
    shape = (1, 32, 6) if pointnet else (1, len(model.coords), d)
    values = torch.linspace(-1 if pointnet else 0, 1, shape[1] * shape[2]).reshape(shape)
    output = model.gate_output(values, torch.zeros(1, dtype=torch.long))
    close(output.logits, expected["gate"]["logits"])
    close(output.bias, expected["gate"]["bias"])
    assert (model.prior is None) == (expected["prior"] is None)
    if model.prior is not None:
        close(model.prior.mean, expected["prior"]["mean"])
        close(model.prior.variances, expected["prior"]["variances"])


def test_codes_are_read() -> None:
    codes, facts = load_codes(STORED / "codes" / "codes.safetensors")
    expected = EXPECTED["codes/codes.safetensors"]
    assert facts == expected["facts"] and set(codes) == set(expected["codes"])
    for method, parts in expected["codes"].items():
        for name, part in parts.items():
            close(getattr(codes[method], name), part)


@pytest.mark.parametrize("folder", ["ct", "shapes"])
def test_a_run_goes_on(folder: str, tmp_path: Path) -> None:
    run = tmp_path / folder
    shutil.copytree(STORED / "runs" / folder, run)
    config = load_config(run / "config.yaml", [f"logging.run_dir={run}", "training.steps=12"])
    trainer = train(config, resume="auto")
    assert trainer.step == 12 and trainer.figures and (run / "checkpoints" / "step-00000012").is_dir()
    assert type(trainer.task) is type(make_task(config))


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("{source: folder, path: a, cloud: 3}", ["signals.cloud means nothing for source 'folder' and is left out"]),
        ("{lattice: 3, phantoms: 4096}", ["signals.lattice means nothing for source 'embedded' and is left out"]),
        ("{source: folder, path: a, video: {start: 0}, cloud: 512}", []),
        ("{source: shapes, colour: grey}", ["signals.colour means nothing for source 'shapes' and is left out"]),
    ],
)
def test_a_key_of_another_task_is_left_out(text: str, warned: list[str], tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"signals: {text}" + "\ncoding: {gate: {kind: codebook}}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_config(path)
    assert [str(warning.message) for warning in caught] == warned
