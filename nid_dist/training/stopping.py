"""A clean stop: SIGTERM, SIGUSR1, Ctrl-C and a launcher that is gone are noted; the next step's border is the end."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from nid_dist.parallel.launch.orphans import Launchers, launchers

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # Open MPI hands on the last one only
_ORPHANED = "the end of its launcher"
STOPS = (*(number.name for number in _SIGNALS), _ORPHANED)
"""What asks for a stop: names of signals, and that."""

_ONCE = 1.0  # seconds in which signals are one request: a terminal sends Ctrl-C to all, and launchers hand it on


class StopRequest:
    """As a context manager, notes SIGTERM, SIGINT and SIGUSR1 instead of letting them end the process.

    `tell` is called with one line when the first of them arrives; `signal` is its name, or None.
    """

    def __init__(self, tell: Callable[[str], object], above: Launchers | None = None) -> None:
        self.signal: str | None = None
        self._tell, self._above = tell, launchers() if above is None else above
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

    def look(self) -> str | None:
        """What has asked for a stop so far, a launcher that has ended among it."""
        if self.signal is None and self._above.ended():
            self._stop(_ORPHANED)
        return self.signal

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT and time.monotonic() - self._noted_at > _ONCE:
            raise KeyboardInterrupt  # asked twice: at once, without a checkpoint
        if self.signal is None:
            self._stop(signal.Signals(number).name)

    def _stop(self, asked_by: str) -> None:
        self.signal, self._noted_at = asked_by, time.monotonic()
        self._tell(f"{asked_by}: finishing this step, then writing a checkpoint (Ctrl-C again: stop at once)")
