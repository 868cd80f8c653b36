"""What a command has been warned of: one line for each cause, and at its end what has come again or was left out."""

import sys
import threading
from collections import Counter

from nid_dist.errors import DoubtfulMeaning, SkippedFiles


class Warned:
    """Shows warnings on stderr; a `silent` one shows none.

    What is doubted of thousands of files is said of the first one, at once, and counted of the others. Images are read
    by several threads.
    """

    def __init__(self, program: str, *, silent: bool = False) -> None:
        self._program, self._silent, self._lock = program, silent, threading.Lock()
        self._doubts: Counter[str] = Counter()  # by cause
        self._skipped: dict[str, None] = {}  # each line once, however often a folder is listed

    def show(self, message: Warning | str, *_: object, **__: object) -> None:
        """Take the place of `warnings.showwarning`."""
        if self._silent:
            return
        line = " ".join(str(message).split())
        with self._lock:
            if isinstance(message, SkippedFiles):
                self._skipped[line] = None
                return
            if isinstance(message, DoubtfulMeaning):
                self._doubts[message.cause] += 1
                if self._doubts[message.cause] > 1:
                    return
            print(f"{self._program}: warning: {line}", file=sys.stderr)

    def finish(self) -> None:
        """Say what is left to be said when the command ends."""
        for cause, times in self._doubts.items():
            if times > 1:
                others = f"{times - 1} other{'s' if times > 2 else ''}"
                print(f"{self._program}: warning: {others} as doubtful as the first, taken as {cause}", file=sys.stderr)
        for line in self._skipped:
            print(f"{self._program}: {line}", file=sys.stderr)
