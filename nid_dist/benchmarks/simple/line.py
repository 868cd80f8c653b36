"""A line of the table, which each job's file makes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A job as we do it and as the simple thing does."""

    key: str  # of the difference in the figures, with `minus` in it
    job: str
    method: str  # ours
    ours: float
    simple_method: str
    simple: float
    unit: str = "dB"
    seconds: float | None = None  # for one signal, without training
    simple_seconds: float | None = None


Lines = Callable[[bool], Iterable[Line]]
"""The lines of some jobs; quick: of tiny sizes, to see that it works."""
