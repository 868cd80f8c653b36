"""A trained model as one folder of safetensors and text, opened anywhere by `nid_dist.load`."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nid_dist.checkpoints import checkpoint
from nid_dist.checkpoints.run_folder import CHECKPOINTS, CONFIGURATION, RunFolder, recorded_in
from nid_dist.checkpoints.writing import write_tensors
from nid_dist.config import Config, load_config
from nid_dist.config.recording import require_same_dictionary
from nid_dist.device import resolve_device
from nid_dist.errors import UserError
from nid_dist.files import expanded, write_json
from nid_dist.model import Model
from nid_dist.tasks.registry import fitter_of

FORMAT = 1
_WEIGHTS, _CONFIG, _FACTS = "model.safetensors", "config.yaml", "model.json"
_SEAL = "facts_sha256"


def export(model: Model, folder: str | Path) -> Path:
    """Write a model to a new folder: `model.safetensors`, `config.yaml` and `model.json` (shapes of signals, checksum).

    It appears complete or not at all.

    Raises:
        UserError: when the folder exists or cannot be written.
    """
    folder = expanded(folder)
    if folder.exists():
        raise UserError(
            str(folder), found="an existing path", expected="a new folder", hint="choose another or remove it"
        )
    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        write_tensors(temporary / _WEIGHTS, model.state_dict(), {})
        (temporary / _CONFIG).write_text(model.config.to_yaml())
        own = {"sha256": _digest(temporary / _WEIGHTS), CONFIGURATION: model.config.model_dump(mode="json")}
        _write_facts(temporary, _facts(model) | own)
        os.replace(temporary, folder)
    except OSError as error:
        raise UserError(
            str(folder), found=error.strerror or str(error), expected="a writable place", hint="choose another"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def load(path: str | Path, device: str | torch.device = "auto") -> Model:
    """Open a trained model, in evaluation mode, without gradients, without a process group.

    Args:
        path: a folder written by `export`, a run folder (its newest good checkpoint is used), or one
            checkpoint of a run.
        device: where it computes: `auto` (the GPU where there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: when there is no model, it is damaged, or there is no such device.
    """
    path, device = expanded(path), resolve_device(device)
    place = path.absolute()
    if (place / CHECKPOINTS).is_dir():
        model = _load_run(RunFolder(path), path / CHECKPOINTS)
    elif (place / _WEIGHTS).exists() or (place / _FACTS).exists():
        model = _load_export(path)
    elif checkpoint.has_checkpoint(place):
        above = place.parent if (place.parent / _CONFIG).is_file() else place.parent.parent
        model = _load_run(RunFolder(above), path)
    else:
        raise UserError(
            str(path),
            found="no model" if path.exists() else "nothing",
            expected="a run folder, a checkpoint or an exported dictionary",
            hint="name the folder that a training or an export wrote",
        )
    return model.to(device).eval().requires_grad_(False)


def describe(model: Model, run: RunFolder) -> None:
    """Write into a run's folder what, besides the configuration, its checkpoints' shapes depend on."""
    _write_facts(run.path, _facts(model))


def measured(run: RunFolder) -> dict[str, float]:
    """The figures of validation that a run's folder holds; none: it was not described yet, or not evaluated."""
    try:
        return dict(json.loads((run.path / _FACTS).read_text())["validation"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _load_export(path: Path) -> Model:
    try:
        facts = _read_facts(path)
        if _digest(path / _WEIGHTS) != facts["sha256"]:
            raise UserError(
                str(path / _WEIGHTS),
                found="other bytes than were exported",
                expected="the recorded SHA-256",
                hint="copy or export the dictionary again",
            )
        config = load_config(path / _CONFIG)
        model = _build(config, facts)
        model.load_state_dict(load_file(path / _WEIGHTS))
        _require_own(config, recorded_in(path, facts), path / _CONFIG)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(
            str(path), found=f"a damaged export ({error})", expected="a complete one", hint="export it again"
        ) from error
    return model


def _load_run(run: RunFolder, source: Path) -> Model:
    config = run.read_config()
    try:
        facts = _read_facts(run.path)
        model = _build(config, facts)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise UserError(
            str(run.path / _FACTS),
            found=f"a missing or damaged file ({error})",
            expected="what the training wrote when it started",
            hint="resume the training once, which writes it again",
        ) from error
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    path, held = checkpoint.load_newest(source, state, partial=True)
    _require_own(config, recorded_in(path, held), run.config)
    return model


def _require_own(config: Config, before: Config | None, where: Path) -> None:
    """Refuse a configuration beside weights that were trained with another."""
    if before is not None:
        require_same_dictionary(before, config, str(where), same_run=False)


def _read_facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / _FACTS).read_text())
    if facts["format"] != FORMAT:
        raise UserError(
            str(folder / _FACTS),
            found=f"format {facts['format']}",
            expected=f"format {FORMAT}",
            hint="use the version of nid_dist that wrote it",
        )
    seal = facts.pop(_SEAL, None)  # those of version 0.1 have none
    if seal is not None and seal != _seal(facts):
        raise ValueError(f"{_FACTS} with another checksum")
    return facts


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Write `model.json`, with a checksum of itself."""
    write_json(folder / _FACTS, facts)
    plain = json.loads((folder / _FACTS).read_text())
    write_json(folder / _FACTS, plain | {_SEAL: _seal(plain)})


def _seal(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _facts(model: Model) -> dict[str, Any]:
    return {"format": FORMAT, "channels": model.channels, "grid": list(model.grid_shape), "signals": model.signals} | (
        {"validation": model.validation} if model.validation else {}
    )


def _build(config: Config, facts: dict[str, Any]) -> Model:
    with _Undrawn():
        model = Model(config, channels=facts["channels"], grid_shape=tuple(facts["grid"]), signals=facts["signals"])
    model.fitter, model.validation = fitter_of(config), dict(facts.get("validation", {}))
    return model


class _Undrawn(TorchFunctionMode):
    """Parameters without initial values, which others replace: those of a million experts take minutes to draw."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in (Tensor.normal_, Tensor.uniform_) else func(*args, **(kwargs or {}))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
