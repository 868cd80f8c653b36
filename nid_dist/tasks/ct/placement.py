"""Where views may have been measured instead, if they cannot be of one object as the geometry has them."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose, white_noise
from nid_dist.tasks.ct.consistency import Consistency, Values, consistency, full_turn, masses, moved
from nid_dist.tasks.ct.finding import Finding, numbered

_INCONSISTENT = 2.0  # a score; clean and noisy scans of heads, bodies and photographs have up to 1.6
_SHIFTED, _SURELY = 0.35, 4.0  # bins, and standard deviations, of an axis that is elsewhere
_SHARED = 40  # lines, of fewer of which nothing is said of the fan that they are of
_BENT, _SHARPER = 0.5, 0.4  # the score of a fan that may be another, and the share of it that another leaves
_ENOUGH = 10  # conditions: of fewer, something else holds by chance


def deviation_of(values: Values, dose: Dose) -> Values:
    """Of the noise of each line: by the dose, and no less than the numbers themselves say."""
    found: np.ndarray = np.maximum(dose.deviation(values), white_noise(values))
    return found


def transposed(values: Values, geometry: Geometry, dose: Dose) -> Finding | None:
    """Whether a square sinogram has bins where views should be."""
    if values.shape[0] != values.shape[1] or geometry.bins < 8:
        return None
    given, turned = (consistency(each, geometry, deviation_of(each, dose)).score for each in (values, values.T))
    if given < _INCONSISTENT or turned > min(_INCONSISTENT, given / 2):
        return None
    return Finding(
        "transposed",
        "views that fit together if bins and views change places",
        "[views, bins]: this looks transposed",
        "transpose it",
        True,
    )


def misplaced(values: Values, geometry: Geometry, dose: Dose) -> Finding | None:
    """Whether the views can be of one object where the geometry says that they are, and which change helps."""
    if geometry.bins < 8:
        return None
    deviation = deviation_of(values, dose)
    given = consistency(values, geometry, deviation)
    axis = _axis(given, geometry)
    if given.score < _INCONSISTENT:
        if axis is None:
            return _other_fan(values, geometry, deviation, given)
        return _without_shift(values, geometry, deviation, given.score) or axis
    best, explained = min(_INCONSISTENT, given.score / 2), None
    for other, finding in _explanations(geometry):
        found = consistency(values, other, deviation)
        if found.conditions >= max(_ENOUGH, given.conditions / 8) and found.score < best:
            explained = finding
            if finding.cause != "axis" and found.score < 1:
                break  # the first that explains all is the likeliest
            best = found.score
    if explained is None and axis is not None and given.as_given > 1.5 * given.score:
        return axis  # and what else there is, is less
    other_fan = None if explained else _other_fan(values, geometry, deviation, given)
    return explained or other_fan or _unexplained(values, geometry, deviation, given)


def _without_shift(values: Values, geometry: Geometry, deviation: Values, score: float) -> Finding | None:
    """Of a scan that an axis elsewhere would explain, what explains it better with the axis where it is."""
    for other, finding in _explanations(geometry):
        found = consistency(values, other, deviation)
        if finding.cause != "axis" and found.conditions >= _ENOUGH and found.as_given < min(1.0, 0.5 * score):
            return finding
    return None


def _other_fan(values: Values, geometry: Geometry, deviation: Values, given: Consistency) -> Finding | None:
    """Whether the lines that a fan's views share agree far better from a source elsewhere, or on the other detector.

    These lines bend all alike, so that contradictions are small: what counts is how much less is left.
    """
    if geometry.source is None or given.conditions < _SHARED or given.score < _BENT:
        return None
    best, found = _SHARPER * given.score, None
    other: Literal["flat", "arc"] = "arc" if geometry.detector == "flat" else "flat"
    # The detector is as wide as it is said, on the axis.
    sources = geometry.source * 1.1 ** np.arange(-16, 17)
    tried = [replace(geometry, detector=other), *(replace(geometry, source=each) for each in sources if each > 1.02)]
    for place, each in enumerate(tried):
        score = consistency(values, each, deviation)
        if score.conditions >= max(_SHARED, given.conditions / 4) and score.score < best:
            best, found = score.score, (place, each)
    if found is None:
        return None
    words = f"on a detector that is {other}" if found[0] == 0 else f"from a source at {found[1].source:.2g} radii"
    return Finding(
        "fan",
        f"rays that fit together {words}",
        f"a source at {geometry.source:.3g} radii and a detector that is {geometry.detector}, as the geometry has them",
        "check source, radius, width and detector in the geometry",
    )


def _axis(given: Consistency, geometry: Geometry) -> Finding | None:
    if abs(given.shift) < _SHIFTED or abs(given.shift) < _SURELY * given.shift_deviation:
        return None
    return axis_finding(geometry, geometry.axis + given.shift, given.shift_deviation)


def axis_finding(geometry: Geometry, axis: float, deviation: float = 0.0) -> Finding:
    """That the axis falls on another bin than the geometry says."""
    skimage = not geometry.source and not geometry.bins % 2 and abs(axis - geometry.bins // 2) < 0.25
    maybe = " (or convention: skimage, if its radon made the scan)" if skimage else ""
    within = f" (give or take {deviation:.1g})" if deviation else ""
    return Finding(
        "axis",
        f"views that turn about bin {axis:.2f}{within}",
        f"turning about bin {geometry.axis:g}, where the geometry has the axis",
        f"set axis: {axis:.2f} in the geometry{maybe}",
        axis=axis,
    )


def _explanations(geometry: Geometry) -> Iterator[tuple[Geometry, Finding]]:
    """Where else the numbers may have been measured, and what to say of it."""

    def views(found: str, hint: str) -> Finding:
        return Finding("views", f"views that fit together {found}", "views at the geometry's angles", hint)

    angles, count = geometry.angles, geometry.views
    first, turn = angles[0], 2 * math.pi
    step = float(np.median(np.diff(angles))) if count > 1 else 0.0
    if count > 2 and np.allclose(np.diff(angles), step, atol=1e-6):
        sense = -1.0 if step < 0 else 1.0
        for arc, words in ((turn / 2, "half a turn"), (turn, "a whole turn")):
            for parts, ends in ((count, ""), (count - 1, ", the last view at its end")):
                other = sense * arc / parts
                if abs(other - step) > 1e-3 * abs(step):
                    hint = f"correct arc in the geometry, to {math.degrees(abs(other) * count):.6g} degrees"
                    spread = replace(geometry, angles=first + other * np.arange(count))
                    yield spread, views(f"over {words}{ends}", hint)
    for turned, unit in ((np.deg2rad(angles), "radians"), (np.rad2deg(angles), "degrees")):
        yield replace(geometry, angles=turned), views(f"if unit is {unit}", f"set unit to {unit}")
    if geometry.source is not None:
        back = replace(geometry, angles=2 * first - angles)
        yield back, views("in the other direction", "set direction to clockwise (or back), or turn the bins")
        if not full_turn(geometry):
            for shift in np.arange(-6, 6.5, 0.5):
                yield moved(geometry, shift), axis_finding(geometry, geometry.axis + shift)


def _unexplained(values: Values, geometry: Geometry, deviation: Values, given: Consistency) -> Finding:
    mass = masses(values, geometry)
    usual = float(np.median(mass))
    noise = geometry.pitch * np.sqrt(np.square(deviation).sum(1))
    off = np.abs(mass - usual) > np.maximum(6 * noise, 0.1 * abs(usual))
    if geometry.source is None and off.any() and off.mean() <= 0.1:
        return Finding(
            "masses",
            f"{numbered('view', off)} with another mass than the others",
            "views of the same object",
            "remove these views from sinogram and geometry, or normalise them by their blanks",
        )
    spread = float(mass.std() / abs(usual)) if usual else 0.0
    if geometry.source is None and spread > max(0.03, 4 * float(noise.mean()) / abs(usual)):
        return Finding(
            "contradiction",
            f"views whose masses differ by {100 * spread:.2g} %",
            "parallel views of one object, whose masses are the same",
            "correct beam in the geometry if it is a fan; or else the blanks, or what reaches beyond the detector",
        )
    if _shuffled(values, geometry):
        return Finding(
            "order",
            "neighbouring views that are no more alike than any two",
            "views in the order of the geometry's angles",
            "sort the views, or list their angles",
        )
    return Finding(
        "contradiction",
        f"views that contradict each other: {given.score:.2g} times what noise and bins explain",
        "views of one object",
        "check beam, angles, source and detector of the geometry, and that it belongs to this scan",
    )


def _shuffled(values: Values, geometry: Geometry) -> bool:
    if geometry.views < 12:
        return False
    ordered = values[np.argsort(geometry.angles % (2 * math.pi), kind="stable")]

    def apart(by: int) -> float:
        return float(np.square(ordered - np.roll(ordered, by, axis=0)).mean())

    return apart(1) > 0.7 * float(np.mean([apart(by) for by in range(2, geometry.views - 1)]))
