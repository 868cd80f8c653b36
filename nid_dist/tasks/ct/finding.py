"""Something that is wrong with a sinogram, in words."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

_NAMED = 4  # bins or views by number; more are counted


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a sinogram."""

    cause: str  # the same for the same in other slices
    found: str
    wanted: str  # what it is taken as; of what is certain, what is expected
    hint: str
    certain: bool = False
    axis: float | None = None  # in bins, where it is to be instead


def numbered(noun: str, which: Bool[np.ndarray, "n"]) -> str:
    """Some of many by their numbers, such as "bins 3, 4" or "view 7"."""
    places = np.flatnonzero(which)
    if len(places) == 1:
        return f"{noun} {places[0]}"
    named = ", ".join(str(place) for place in places[:_NAMED])
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    return f"{noun}s {named}{more}"
