"""Whether a sinogram can be one of its geometry, whatever the object is: what of it an object leaves no choice.

Parallel beams: the moments of Helgason and Ludwig (Helgason 1965, Ludwig 1966). The integral over s of a view times
U_n(s), Chebyshev's polynomial, is a sum of cos(k t) and sin(k t) with k = n, n - 2, ... >= 0 of the view's angle t: the
mass (n = 0) is the same in every view, the centre of mass (n = 1) a sinusoid, to which an axis that is taken to be
elsewhere adds a constant. A fan's views are tied by the lines that two of them have in common, those through both
sources, and over a whole turn their mean is symmetric about the axis.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from nid_dist.measurements.back_projection import arcs
from nid_dist.measurements.geometry import Geometry

Values = Float64[np.ndarray, "V B"]

ORDERS = 5  # of moments, n = 0 ... 4
_WITHIN = 0.97  # of the disc, in which lines are compared: at its border chords are steep
_FEW = 4  # shared lines, of fewer of which nothing is said
_FULL = 1.5  # times the usual gap between views, at most, in a whole turn


@dataclass(frozen=True)
class Consistency:
    """How far a sinogram is from any that its geometry can measure."""

    score: float  # root mean square of what the conditions leave, in standard deviations; about 1 or less if consistent
    conditions: int  # of freedom that it is of
    as_given: float  # the score with the axis where the geometry has it
    shift: float  # of the axis towards higher bins, in bins, that fits best
    shift_deviation: float  # of that; infinite where the views do not say it


def consistency(values: Values, geometry: Geometry, deviation: Values) -> Consistency:
    """How consistent a sinogram is once its axis is where it fits best.

    Args:
        values: line integrals.
        deviation: of their noise.
    """
    parallel = geometry.source is None
    shift, spread = (_parallel_shift if parallel else _fan_shift)(values, geometry, deviation)
    left = _moments_left if parallel else _pairs_left
    as_given, conditions = left(values, geometry, deviation)
    score = as_given
    if math.isfinite(spread):
        score, conditions = left(values, moved(geometry, shift), deviation)
    return Consistency(score, conditions, as_given, shift, spread)


def moved(geometry: Geometry, bins: float) -> Geometry:
    """The same, with the axis so many bins higher."""
    return replace(geometry, offset=geometry.offset - bins * geometry.pitch)


def masses(values: Values, geometry: Geometry) -> Float64[np.ndarray, "V"]:
    """What each view has in all."""
    found: np.ndarray = geometry.pitch * (values * np.cos(geometry.fan_angles)).sum(1)
    return found


def _moment(values: Values, geometry: Geometry, order: int) -> Float64[np.ndarray, "V"]:
    places = geometry.shifts[:, None] + geometry.positions
    found: np.ndarray = geometry.pitch * (values * chebyshev(order, places)).sum(1)
    return found


def chebyshev(order: int, places: Float64[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
    """U_n, of the second kind."""
    before, found = np.zeros_like(places), np.ones_like(places)
    for _ in range(order):
        before, found = found, 2 * places * found - before
    return found


def _harmonics(angles: Float64[np.ndarray, "V"], order: int) -> Float64[np.ndarray, "V p"]:
    columns = []
    for times in range(order, -1, -2):
        columns.append(np.cos(times * angles))
        if times:
            columns.append(np.sin(times * angles))
    return np.stack(columns, 1)


def _deviations(values: Values, geometry: Geometry, deviation: Values, order: int) -> Float64[np.ndarray, "V"]:
    """Of a moment in each view: by noise, and by what sums over bins are from integrals."""
    weights = chebyshev(order, geometry.shifts[:, None] + geometry.positions)
    noise = geometry.pitch * np.sqrt(np.square(deviation * weights).sum(1))
    found: np.ndarray = np.hypot(noise, sum_error(geometry.bins) * float(np.abs(masses(values, geometry)).mean()))
    return found


def sum_error(bins: int) -> float:
    """Of a moment as a sum over bins, relative to the mass: as single lines through heads have it, of means less."""
    return max(0.003, 0.005 * (65 / bins) ** 1.6)


def _left(
    columns: Float64[np.ndarray, "n p"], wanted: Float64[np.ndarray, "n"], deviations: Float64[np.ndarray, "n"]
) -> tuple[Float64[np.ndarray, "n"], int, Float64[np.ndarray, "p p"], Float64[np.ndarray, "p"]]:
    """Weighted least squares: what is left in deviations, degrees of freedom, the covariance, and the solution."""
    scaled = columns / deviations[:, None]
    inverse = np.linalg.pinv(scaled, rcond=1e-6)
    found = inverse @ (wanted / deviations)
    freedom = len(wanted) - int(np.linalg.matrix_rank(scaled, 1e-6))
    return wanted / deviations - scaled @ found, freedom, inverse @ inverse.T, found


def _moments_left(values: Values, geometry: Geometry, deviation: Values) -> tuple[float, int]:
    squares, freedom = 0.0, 0
    for order in range(ORDERS):
        spread = _deviations(values, geometry, deviation, order)
        left, free, _, _ = _left(_harmonics(geometry.angles, order), _moment(values, geometry, order), spread)
        if free > 0:
            squares, freedom = squares + float(np.square(left).sum()), freedom + free
    return math.sqrt(squares / freedom) if freedom else 0.0, freedom


def _parallel_shift(values: Values, geometry: Geometry, deviation: Values) -> tuple[float, float]:
    """Of the axis, in bins: what the first moment has beside a sinusoid, over the mass."""
    mass = masses(values, geometry)
    columns = np.concatenate([_harmonics(geometry.angles, 1), 2 * geometry.pitch * mass[:, None]], 1)
    spread = _deviations(values, geometry, deviation, 1)
    if len(mass) < 3 or np.linalg.cond(columns / np.abs(columns).max(0).clip(1e-12)) > 100:
        return 0.0, math.inf
    left, free, covariance, found = _left(columns, _moment(values, geometry, 1), spread)
    worse = max(1.0, float(np.square(left).sum()) / free) if free else 1.0
    return float(found[2]), math.sqrt(covariance[2, 2] * worse)


def full_turn(geometry: Geometry) -> bool:
    """Whether views lie all around, nearly evenly."""
    angles = np.sort(geometry.angles % (2 * math.pi))
    gaps = np.diff(angles, append=angles[0] + 2 * math.pi)
    return geometry.views >= 4 and float(gaps.max()) <= _FULL * 2 * math.pi / geometry.views


def _fan_shift(values: Values, geometry: Geometry, deviation: Values) -> tuple[float, float]:
    """Of the axis, in bins: over a whole turn, where the mean of all views has its middle."""
    if not full_turn(geometry):
        return 0.0, math.inf
    weights = arcs(geometry) / arcs(geometry).sum()
    profile = weights @ values
    mass = float(profile.sum())
    if mass <= 0:
        return 0.0, math.inf
    bins = np.arange(geometry.bins)
    middle = float(bins @ profile) / mass
    spread = math.sqrt(float(np.square(weights) @ np.square(deviation) @ np.square(bins - middle))) / mass
    # A few views do not turn all that is off the axis around it.
    return middle - geometry.axis, math.hypot(spread, max(0.03, 0.8 / geometry.views))


def pairs(geometry: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a fan's views, and the angle of the line through both sources in the first; minus that in the second."""
    first, second = np.triu_indices(geometry.views, 1)
    between = (geometry.angles[second] - geometry.angles[first]) % (2 * math.pi)
    turned = (math.pi - between) / 2
    assert geometry.source is not None
    seen = (np.abs(np.sin(turned)) * geometry.source < _WITHIN) & (between > 0)
    return first[seen], second[seen], turned[seen]


def _pairs_left(values: Values, geometry: Geometry, deviation: Values) -> tuple[float, int]:
    """What views say differently of the lines that they share."""
    first, second, turned = pairs(geometry)
    assert geometry.source is not None
    along = np.tan(turned) if geometry.detector == "flat" else turned
    places = geometry.source / geometry.pitch * along
    sides = [(first, places + geometry.axis), (second, -places + geometry.axis)]
    inside = np.all([(place >= 1) & (place <= geometry.bins - 2) for _, place in sides], axis=0)
    if inside.sum() < _FEW or geometry.bins < 8:
        return 0.0, 0
    read, error = [], np.zeros(int(inside.sum()))
    for view, place in sides:
        view, place = view[inside], place[inside]
        low = np.floor(place).astype(int).clip(1, geometry.bins - 3)
        near = np.stack([values[view, low + step] for step in (-1, 0, 1, 2)])
        # A line through an edge is read to a share of what its neighbours differ by.
        error += (0.1 * np.ptp(near, axis=0)) ** 2 + deviation[view, low] ** 2
        share = place - low
        read.append((1 - share) * near[1] + share * near[2])
    floor = 0.005 * float(np.abs(values).max())
    left = (read[0] - read[1]) / np.sqrt(error + floor**2)
    return float(np.sqrt(np.square(left).mean())), len(left)
