"""What a card was measured to do (`nid-benchmark gpu`), in place of assumptions about it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nid_dist.errors import UserError
from nid_dist.precision import Precision


@dataclass(frozen=True)
class Card:
    """Rates of one card."""

    name: str
    rate: float  # operations per second that the dictionary's step attains
    copies: float  # bytes per second that it reads and writes in its memory
    memory: float  # bytes


def read_card(path: Path, precision: Precision) -> Card:
    """The rates of a file that `nid-benchmark gpu` wrote, those of steps in a precision.

    Raises:
        UserError: when it is not such a file, or the card was not measured in this precision.
    """
    try:
        found: Any = json.loads(path.read_text())
        figures = dict(found["figures"])
        memory, copies = (_positive(figures[name]) for name in ("memory_gb", "copy_gb_per_s"))
        name = str(found["machine"]["accelerator"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"no rates of a card ({error!r})"
        raise UserError(
            f"--card {path}", found=reason, expected="a file that nid-benchmark gpu --json wrote", hint="measure again"
        ) from None
    key = f"attained_{precision}_tflops"
    try:
        rate = _positive(figures[key])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"--card {path}",
            found=f"no {key}",
            expected="a card that was measured in training.precision",
            hint="measure again, or say what it attains (--flops)",
        ) from None
    return Card(name, 1e12 * rate, 1e9 * copies, 1e9 * memory)


def _positive(value: Any) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(number)
    return number
