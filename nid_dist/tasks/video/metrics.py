"""How well what moves is told from what stays: precision, recall and their harmonic mean."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

_BINS = 1024
_TOP = 0.5  # of deviations; what is beyond is foreground at any threshold


@dataclass(frozen=True)
class Detection:
    """Foreground pixels found."""

    precision: float  # share of what was found that is foreground
    recall: float  # share of the foreground that was found
    threshold: float  # beyond which a deviation counts

    @property
    def f_measure(self) -> float:
        """Harmonic mean of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def best_detection(pairs: Iterable[tuple[Float[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]]) -> Detection:
    """What is found at the best of 1024 thresholds, so that in a comparison no method suffers from its choice.

    The F-measure decides. The pairs are deviations of a frame from its background, and where there is foreground in
    truth.
    """
    inside, outside = np.zeros(_BINS + 1), np.zeros(_BINS + 1)
    for deviations, truth in pairs:
        bins = (deviations * (_BINS / _TOP)).astype(int).clip(0, _BINS)
        inside += np.bincount(bins[truth], minlength=_BINS + 1)
        outside += np.bincount(bins[~truth], minlength=_BINS + 1)
    # Counts beyond the lower edge of each bin.
    found, false = inside[::-1].cumsum()[::-1], outside[::-1].cumsum()[::-1]
    total = found + inside.sum() + false
    measure = np.divide(2 * found, total, out=np.zeros_like(total), where=total > 0)
    best = int(measure.argmax())
    hits, total_inside = float(found[best]), float(inside.sum())
    return _detection(hits, hits + float(false[best]), total_inside, best * _TOP / _BINS)


def detection(pairs: Iterable[tuple[Bool[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]], threshold: float) -> Detection:
    """Precision and recall over all frames of masks, each paired with where there is foreground in truth."""
    hits = marked = total = 0.0
    for mask, truth in pairs:
        hits += float((mask & truth).sum())
        marked += float(mask.sum())
        total += float(truth.sum())
    return _detection(hits, marked, total, threshold)


def _detection(hits: float, marked: float, total: float, threshold: float) -> Detection:
    return Detection(float(hits / marked) if marked else 0.0, float(hits / total) if total else 0.0, threshold)
