"""Files and folders that appear complete or not at all."""

import errno
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from safetensors import SafetensorError

from nid_dist.errors import UserError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_TRIED = "not tried, as there was no room for one before"
_SHORT = re.compile(r"\d+ requested and \d+ written")  # numpy's word for it


def expanded(path: str | Path) -> Path:
    """A path as a user writes it: `~` is their home. The shell does not see to it in `--out=~/x`, nor in a file."""
    return Path(os.path.expanduser(path))


def keep_apart(out: Path, inputs: Iterable[Path | str | None], where: str = "") -> None:
    """Refuse results within a folder that signals are read from: the next time they would be signals, too.

    Args:
        out: where results go; it may be missing yet.
        inputs: folders; files and None are passed over, as nobody lists what lies beside a file.
        where: what the error is about; the option `--out` by default.

    Raises:
        UserError: when results would lie in one of the folders.
    """
    target = os.path.realpath(out)
    for each in (each for each in inputs if each is not None and os.path.isdir(each)):
        source = os.path.realpath(each)
        if os.path.commonpath([target, source]) == source:
            raise UserError(
                where or f"--out {out}",
                found=f"{'the folder of' if target == source else 'a folder within'} the inputs ({each})",
                expected="a place apart from them: the next time results would be read as signals",
                hint="choose another folder",
            )


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not.

    It is in the same folder, made where it is missing, so that the replacement is atomic.

    Raises:
        UserError: the folder or the file cannot be written.
    """
    path = expanded(path)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise Unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


class Unwritable(UserError):
    """A result that cannot be written, for a reason that lies in where it is written to."""

    def __init__(self, path: Path, error: OSError | SafetensorError) -> None:
        number = getattr(error, "errno", None) or 0
        if not number:  # safetensors and numpy say it in their own ways
            number = next((each for each in _NO_ROOM if f"os error {each})" in str(error)), 0)
            number = errno.ENOSPC if _SHORT.search(str(error)) else number
        self.no_room = number in _NO_ROOM
        super().__init__(
            str(path),
            found=f"that it cannot be written ({os.strerror(number) if number else error})",
            expected="a place for the result",
            hint="choose another output folder or make room in this one",
        )


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well, and vanishes when it does not.

    `path` is new or empty; missing folders above it are made.

    Raises:
        UserError: there is something at `path` already, or it cannot be written.
    """
    path = expanded(path)
    temporary = _beside(path)
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            found = "a folder with files" if path.is_dir() else "a file"
            raise UserError(str(path), found=found, expected="a new or empty folder", hint="choose another")
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise Unwritable(path, error) from error
    except UserError as error:  # what is said of the temporary folder is meant of this one
        error.replace(str(temporary), str(path))
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_array(path: str | Path) -> np.ndarray:
    """Read numbers from an NPY file, nothing else: mapped first, so that a header that lies allocates nothing.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no such file, holds objects, or is shorter than its header says.
    """
    return np.array(np.lib.format.open_memmap(expanded(path), mode="r"))


def require_inside(where: Path, names: Iterable[Any]) -> None:
    """Refuse names, as a file holds them, that lead out of the folder that they are taken relative to.

    Raises:
        UserError: for a name that is absolute, climbs, or is none.
    """
    for name in names:
        path = PurePosixPath(name) if isinstance(name, str) else None
        if path is None or path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
            raise UserError(
                str(where),
                found=f"the name {name!r}",
                expected="names of files in its own folder",
                hint="do not use it, unless you know who made it",
            )


def save_array(path: str | Path, values: np.ndarray) -> None:
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
