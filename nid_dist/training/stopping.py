"""A clean stop: SIGTERM, SIGUSR1 and Ctrl-C are noted, and the training ends at the next step's border."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # Open MPI hands on the last one only
STOP_SIGNALS = tuple(number.name for number in _SIGNALS)
"""Names of the signals that ask for a stop."""

_ONCE = 1.0  # seconds in which signals are one request: a terminal sends Ctrl-C to all, and launchers hand it on


class StopRequest:
    """As a context manager, notes SIGTERM, SIGINT and SIGUSR1 instead of letting them end the process.

    `tell` is called with one line when the first of them arrives; `signal` is its name, or None.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.signal: str | None = None
        self._tell = tell
        self._noted_at = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        """Take the signals over; outside the main thread, where Python has no handlers, nothing changes."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT and time.monotonic() - self._noted_at > _ONCE:
            raise KeyboardInterrupt  # asked twice: at once, without a checkpoint
        if self.signal is None:
            self.signal, self._noted_at = signal.Signals(number).name, time.monotonic()
            self._tell(f"{self.signal}: finishing this step, then writing a checkpoint (Ctrl-C again: stop at once)")
