"""What all commands share: errors in one line, exit codes, and the threads of the process."""

import sys
from collections.abc import Callable, Sequence

from nid_dist.errors import UserError


def guarded(program: str, command: Callable[[Sequence[str] | None], int]) -> Callable[[Sequence[str] | None], int]:
    """Wrap a command so that an error of the user's ends it with one line on stderr and exit code 2.

    Args:
        program: the name to show.
        command: takes the arguments (None: the process's) and returns the exit code.

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
