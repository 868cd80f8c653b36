"""What long work shows of itself: nothing for two seconds, then a line that moves until it is done.

On a terminal it is a progress bar; elsewhere a line every ten seconds, so that a log can be read.
"""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from tqdm import tqdm

_T = TypeVar("_T")

DELAY = 2.0  # seconds that work may take in silence
INTERVAL = 10.0  # seconds between lines where there is no terminal
_TICK = 0.5  # seconds between looks at the clock


def say(line: str) -> None:
    """Write a line on stderr; that nobody reads it any more, or its disk is full, is no reason to end long work."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class Phase:
    """Work that goes on, by name; `total` units of it, or None where nobody knows."""

    def __init__(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0
        self._begin = time.monotonic()
        self._said: float | None = None  # when a line was last written; None: not yet
        self._bar: tqdm[Any] | None = None

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._begin

    def advance(self, count: int = 1) -> None:
        """Note that so many more units are done."""
        self.done += count

    def show(self) -> None:
        """Bring what is seen up to date, once the phase has lasted long enough to be seen."""
        if self.seconds < DELAY:
            return
        if sys.stderr.isatty():
            bar = self._bar = self._begin_bar() if self._bar is None else self._bar
            bar.update(self.done - bar.n)
            bar.refresh()
        elif self._said is None or time.monotonic() - self._said >= INTERVAL:
            self._said = time.monotonic()
            share = f"{self.done} of {self.total} {self.unit}".rstrip() + ", " if self.total else ""
            say(f"{self.name}: {share}{self.seconds:.0f} s")

    def _begin_bar(self) -> "tqdm[Any]":
        form = None if self.total else "{desc}: {elapsed}"
        bar: tqdm[Any] = tqdm(total=self.total, desc=self.name, unit=self.unit or "it", leave=False, bar_format=form)
        bar.start_t -= self.seconds
        return bar

    def close(self, *, done: bool) -> None:
        """Take the bar away, or end the lines with how long it took, if it is done."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._said is not None and done:
            say(f"{self.name}: done in {self.seconds:.1f} s")


@contextmanager
def phase(name: str, total: int | None = None, unit: str = "", *, shown: bool = True) -> Iterator[Phase]:
    """Show that the work inside goes on, if it takes longer than two seconds; `shown` False: say nothing.

    What happens inside may `advance` the phase; it is also seen to go on where a single call takes long.
    """
    current = Phase(name, total, unit)
    if not shown:
        yield current
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_TICK):
            current.show()

    watcher = threading.Thread(target=watch, name=f"progress of {name}", daemon=True)
    watcher.start()
    done = False
    try:
        yield current
        done = True
    finally:
        over.set()
        watcher.join()
        current.close(done=done)


def track(items: Iterable[_T], name: str, unit: str, total: int | None = None) -> Iterator[_T]:
    """The items, one after the other, as a phase whose units they are; `total`: how many, where they have no length."""
    count = len(items) if total is None and isinstance(items, Sized) else total
    with phase(name, count, unit) as current:
        for item in items:
            yield item
            current.advance()
