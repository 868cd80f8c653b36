"""Files and folders that appear complete or not at all."""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.errors import UserError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not.

    It is in the same folder, made where it is missing, so that the replacement is atomic.

    Raises:
        UserError: the folder or the file cannot be written.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            str(path),
            found=f"that it cannot be written ({error.strerror or error})",
            expected="a place for the result",
            hint="choose another output folder or make room in this one",
        ) from error
    finally:
        if temporary.is_file():
            temporary.unlink()


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well, and vanishes when it does not.

    `path` is new or empty; missing folders above it are made.

    Raises:
        UserError: there is something at `path` already, or it cannot be written.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            found = "a folder with files" if path.is_dir() else "a file"
            raise UserError(str(path), found=found, expected="a new or empty folder", hint="choose another")
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            str(path), found=error.strerror or str(error), expected="a writable place", hint="choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_array(path: Path, values: np.ndarray) -> None:
    """Write numbers as NPY; the file appears complete."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)


def write_json(path: str | Path, obj: Any) -> None:
    """Write an object as valid JSON, atomically; missing folders are made.

    JSON has no word for numbers that are not finite: not a number becomes null, the infinities the strings "inf" and
    "-inf". Arrays, tensors and their scalars become lists and numbers, paths become strings.

    Raises:
        UserError: the file cannot be written.
        TypeError: the object holds something that JSON cannot say.
    """
    text = json.dumps(_plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        # A file name that is not UTF-8 arrives as lone surrogates, whose replacement is the escape JSON uses for them.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _plain(obj: Any) -> Any:
    if hasattr(obj, "tolist"):  # an array or a tensor
        return _plain(obj.tolist())
    if isinstance(obj, float) and not math.isfinite(obj):
        return None if math.isnan(obj) else ("inf" if obj > 0 else "-inf")
    if isinstance(obj, Mapping):
        return {str(key): _plain(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(value) for value in obj]
    return str(obj) if isinstance(obj, Path) else obj


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed had not finished below a folder that no other process writes to."""
    for path in folder.rglob(".*.*.tmp"):
        path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
