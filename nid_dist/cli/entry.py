"""What all commands share: errors in one line, exit codes, new output folders."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from nid_dist.errors import UserError


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

    def main(arguments: Sequence[str] | None = None) -> int:
        try:
            return command(arguments)
        except UserError as error:
            print(f"{program}: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"{program}: interrupted", file=sys.stderr)
            return 130

    return main


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
        raise UserError(f"--out {path}", found="a folder with files", expected="a new or empty one", mend="choose another")
