"""What all commands share: errors and warnings in one line, exit codes, new output folders."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from nid_dist.errors import UserError


@runtime_checkable
class Command(Protocol):
    """Takes the arguments (None: the process's) and returns the exit code."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Run."""
        ...


def guarded(program: str, command: Command) -> Command:
    """Wrap a command so that an error of the user's ends it with one line on stderr and exit code 2.

    Args:
        program: the name to show.
        command: what to run.

    Returns:
        The wrapped command.
    """

    def show_warning(message: Warning | str, *_: object, **__: object) -> None:
        print(f"{program}: warning: {' '.join(str(message).split())}", file=sys.stderr)

    def main(arguments: Sequence[str] | None = None) -> int:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = show_warning
                return command(arguments)
        except UserError as error:
            print(f"{program}: error: {error}", file=sys.stderr)
            return 2
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            print(f"{program}: error: {_memory_error(error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"{program}: interrupted", file=sys.stderr)
            return 130

    return main


def without_result(program: str, failed: Mapping[str, str], count: int) -> int:
    """Say on stderr which of many inputs have no result.

    Args:
        program: the name to show.
        failed: the reasons, by input.
        count: of all inputs.

    Returns:
        The exit code: 0 when there is nothing to say, otherwise 2.
    """
    for reason in failed.values():
        print(f"{program}: error: {reason}", file=sys.stderr)
    if failed and count > 1:
        print(
            f"{program}: error: {len(failed)} of {count} images have no result"
            + ("" if len(failed) == count else "; the others are written"),
            file=sys.stderr,
        )
    return 2 if failed else 0


def new_folder(path: Path) -> None:
    """Make an output folder.

    Args:
        path: must be new or empty.

    Raises:
        UserError: when it holds something, or cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        filled = any(path.iterdir())
    except OSError as error:
        raise UserError(
            f"--out {path}", found=error.strerror or str(error), expected="a writable place", mend="choose another"
        ) from error
    if filled:
        raise UserError(
            f"--out {path}", found="a folder with files", expected="a new or empty one", mend="choose another"
        )


def _out_of_memory(error: Exception) -> bool:
    # PyTorch's allocator on the CPU has no exception of its own.
    return isinstance(error, MemoryError) or "not enough memory" in str(error) or "can't allocate memory" in str(error)


def _memory_error(error: Exception) -> UserError:
    return UserError(
        "memory",
        found=f"too little of it ({str(error).splitlines()[0] if str(error) else 'MemoryError'})",
        expected="room for this configuration",
        mend="lower training.batch, training.coordinates, dictionary.chunk_mb or the image's size",
    )
