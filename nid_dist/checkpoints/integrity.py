"""What a complete, unharmed checkpoint is, and whether it fits the tensors that want to be loaded from it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nid_dist.errors import UserError
from nid_dist.files import require_inside

FORMAT = 1
FACTS = "facts.json"
# What in the configuration decides the shape of a tensor, by a part of the tensor's name; the first that fits.
_CONFIG_KEYS = {
    "gate": "coding.gate or coding.support",
    "encoding": "dictionary.encoding",
    "trunk": "dictionary.width or dictionary.encoding",
    "expert": "dictionary.experts, dictionary.width or signals.colour",
}


class DamagedCheckpoint(UserError):
    """A checkpoint that is incomplete or not what was written: an older one may still be good."""


def write_document(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    placement: Mapping[str, int] | None = None,
) -> Path:
    """Describes the shards of a folder, with their checksums, in a JSON document beside them.

    Args:
        folder: holds the shards and nothing else.
        step: optimiser steps done so far.
        tensors: what the shards hold, by name; of expert tensors the whole counts, not this rank's part.
        facts: the caller's facts, JSON values.
        placement: how many ranks wrote the shards, and as what; for people, as no reader needs it.
    """
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(folder.iterdir())}
    contents = {
        "format": FORMAT,
        "step": step,
        "tensors": {name: _describe(tensor) for name, tensor in tensors.items()},
        "files": files,
        "facts": dict(facts),
    }
    if placement is not None:
        contents["placement"] = dict(placement)
    # Digested as it will be read back, where every key is text; JSON as Python writes it, because an infinite PSNR is
    # a fact, too.
    contents = json.loads(json.dumps(contents))
    path = folder / FACTS
    path.write_text(json.dumps({**contents, "sha256": _digest(contents)}, indent=1), encoding="utf-8")
    return path


def read_document(path: Path) -> dict[str, Any]:
    """Reads the JSON document of a checkpoint: `step`, `tensors`, `files` and `facts`, as `write_document` wrote them.

    Raises:
        DamagedCheckpoint: the document is missing, is not JSON or its checksum differs.
        UserError: there is no such folder, or its format is another one.
    """
    if not path.is_dir():
        raise UserError(
            str(path),
            found="a file" if path.exists() else "nothing",
            expected="the folder of a checkpoint",
            hint="check the path, or use resume=auto for the newest one",
        )
    try:
        document = json.loads((path / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _damaged(path, f"no {FACTS}", "a complete checkpoint") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"a {FACTS} that is not JSON ({error})", "the JSON that training wrote") from None
    except OSError as error:
        raise _damaged(path, f"a {FACTS} that cannot be read ({error.strerror})", "a readable file") from None
    if not isinstance(document, dict):
        raise _damaged(path, f"a {FACTS} that is a {type(document).__name__}", "the JSON object that training wrote")
    if "format" in document and document["format"] != FORMAT:
        raise UserError(
            str(path),
            found=f"format {document['format']}",
            expected=f"format {FORMAT}",
            hint="use the version of nid_dist that wrote it",
        )
    if document.pop("sha256", None) != _digest(document):
        raise _damaged(path, f"a {FACTS} with another checksum", "the one that training wrote")
    strange = [name for name in ("tensors", "files", "facts") if not isinstance(document.get(name), dict)]
    if strange or not isinstance(document.get("step"), int):
        raise _damaged(path, f"a {FACTS} without {' and '.join(strange or ['step'])}", "the one that training wrote")
    require_inside(path / FACTS, document["files"])
    return document


def check_files(path: Path, files: Mapping[str, Mapping[str, Any]], *, checksums: bool) -> None:
    """Compares the shards of a checkpoint with the bytes and sha256 of its document.

    Without `checksums` the files are not read: only their sizes are looked at.

    Raises:
        DamagedCheckpoint: a file is missing, too much, truncated or changed.
    """
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            raise _damaged(path, f"no {name}", f"a file of {expected['bytes']} bytes")
        size = file.stat().st_size
        if size != expected["bytes"]:
            raise _damaged(path, f"{size} bytes in {name}", f"{expected['bytes']} bytes")
        if checksums and _sha256(file) != expected["sha256"]:
            raise _damaged(path, f"{name} with another checksum", "the bytes that training wrote")
    # The reader takes every shard in the folder, so that a stray one would be mixed in.
    stray = sorted(file.name for file in path.glob("*.safetensors") if file.name not in files)
    if stray:
        raise _damaged(path, f"a file that does not belong to it ({stray[0]})", "only the files that training wrote")


def check_tensors(
    path: Path, saved: Mapping[str, Mapping[str, Any]], into: Mapping[str, Tensor], partial: bool
) -> None:
    """Compares the shapes and dtypes of a checkpoint's tensors with those that it is to be loaded into.

    A `partial` load may leave tensors that are not asked for.

    Raises:
        UserError: names, a shape or a dtype differ.
    """
    missing = [name for name in into if name not in saved]
    if missing:
        raise UserError(
            str(path),
            found=f"no tensor {_some(missing)}",
            expected="all tensors of the configured model and optimizer",
            hint=_hint(missing[0], "a section of the configuration"),
        )
    for name, tensor in into.items():
        shape, dtype = list(tensor.shape), _describe(tensor)["dtype"]
        if saved[name]["shape"] != shape:
            raise UserError(
                f"{path}: {name}",
                found=f"shape {saved[name]['shape']}",
                expected=f"shape {shape}, which the configuration asks for",
                hint=_hint(name, "a size in the configuration"),
            )
        if saved[name]["dtype"] != dtype:
            raise UserError(
                f"{path}: {name}", found=saved[name]["dtype"], expected=dtype, hint=_hint(None, "training.precision")
            )
    extra = [name for name in saved if name not in into]
    if extra and not partial:
        raise UserError(
            str(path),
            found=f"a tensor {_some(extra)} that the configured model lacks",
            expected="only tensors of the configured model and optimizer",
            hint=_hint(extra[0], "a section of the configuration"),
        )


def _damaged(path: Path, found: str, expected: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(str(path), found=found, expected=expected, hint="use an older checkpoint or a copy")


def _hint(name: str | None, otherwise: str) -> str:
    key = next((key for part, key in _CONFIG_KEYS.items() if name is not None and part in name), otherwise)
    return f"{key} has probably changed: set it as in the config.yaml of the run, or start a new run"


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def _describe(tensor: Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def _digest(contents: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
