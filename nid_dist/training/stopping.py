"""A clean stop: SIGTERM and Ctrl-C are noted, and the training ends at the next step's border."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOP_SIGNALS = tuple(number.name for number in _SIGNALS)
"""Names of the signals that ask for a stop."""


class StopRequest:
    """As a context manager, notes SIGTERM and SIGINT instead of letting them end the process.

    Args:
        tell: called with one line when the first of them arrives.

    Attributes:
        signal: the name of what arrived, or None.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.signal: str | None = None
        self._tell = tell
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
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once, without a checkpoint
        if self.signal is None:  # a launcher that is interrupted sends SIGTERM, too
            self.signal = signal.Signals(number).name
            self._tell(f"{self.signal}: finishing this step, then writing a checkpoint (Ctrl-C again: stop at once)")
