"""What is tried on a reader: the inputs that it takes, what comes of them, and inputs whose meaning is broken."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias

import numpy as np

from nid_dist.errors import UserError
from nid_dist.memory import out_of_memory

Files: TypeAlias = Mapping[str, bytes]
"""The inputs of a command: contents by posix paths, relative to the folder that they are written to."""
Command: TypeAlias = Callable[[Path, Path], int]
"""Runs a command on the folder of the inputs, its results into a new folder: the exit code."""


@dataclass(frozen=True)
class Meaning:
    """Inputs that can be read, and do not mean what they seem to."""

    name: str  # what is broken
    files: Files
    # inputs that say the same in plain words, or the numbers themselves, which have to come out if no word is said;
    # None: nothing that comes out in silence is right
    truth: Files | np.ndarray | None = None
    tolerance: float = 0.0  # mean absolute difference from the truth


@dataclass(frozen=True)
class Reader:
    """A kind of input, and the command that reads it."""

    name: str  # row of the table
    good: Files
    damaged: Sequence[str]  # of the good files, those that are mutated
    run: Command
    result: Callable[[Path], np.ndarray]  # what came out, of the folder of the results
    exact: bool = False  # whether damage is refused, or changes nothing that comes out
    share: float = 1.0  # of the tries with damage: fewer where one takes long
    meanings: Sequence[Meaning] = field(default_factory=tuple)


def write(files: Files, folder: Path) -> None:
    """Write inputs into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@cache
def command(name: str) -> Callable[[Sequence[str]], int]:
    """A command of the package as it is installed: takes its arguments, returns its exit code."""
    (entry,) = entry_points(group="console_scripts", name=name)
    found: Callable[[Sequence[str]], int] = entry.load()
    return found


def through(read: Callable[[Path], np.ndarray], name: str) -> Command:
    """What a command does with one input, without what it computes then: what has been read is kept as `read.npy`."""

    def show_warning(message: Warning | str, *_: object, **__: object) -> None:
        print(f"read: warning: {' '.join(str(message).split())}", file=sys.stderr)

    def run(given: Path, out: Path) -> int:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = show_warning
                values = read(given / name)
        except (UserError, MemoryError) as error:
            print(f"read: error: {out_of_memory(error) or error}", file=sys.stderr)
            return 2
        out.mkdir(parents=True)
        np.save(out / "read.npy", values)
        return 0

    return run


def what_was_read(out: Path) -> np.ndarray:
    """What `through` has kept."""
    read: np.ndarray = np.load(out / "read.npy")
    return read
