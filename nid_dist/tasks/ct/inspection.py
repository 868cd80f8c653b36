"""What is likely wrong with a sinogram, before anything is reconstructed from it: each cause in one line.

Certain is what no object and no noise can be; likely is what the conditions of consistency leave unexplained, and which
change of the geometry would explain. A scan that is as it should be gives no finding.
"""

import math

import numpy as np
from jaxtyping import Bool, Float64

from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose, white_noise
from nid_dist.tasks.ct.consistency import Values, masses
from nid_dist.tasks.ct.finding import Finding, numbered
from nid_dist.tasks.ct.placement import deviation_of, misplaced, transposed

_FEW_LEVELS = 0.02  # of the largest value: steps as coarse as that
_FAINT = 0.02  # value that an object has at least, on average along some lines
_QUIET = 0.02  # of values: noise of an empty slice, where no dose is stated
_AIR = 0.002  # of values: noise beside the object that is worth a word


def inspect(values: Values, geometry: Geometry, dose: Dose, step: float = 0.0) -> list[Finding]:
    """What is wrong with a sinogram, one finding for a cause, what explains most first; nothing if all is well.

    Args:
        values: integrals of value times radius.
        geometry: where they were measured.
        dose: with which.
        step: by which the numbers were rounded; 0: not.
    """
    # Of a few bins, neighbours differ by what is scanned.
    noise = white_noise(values) if geometry.bins >= 8 else 0.0
    if float(np.abs(values).max()) <= max(1e-9, 5 * noise):
        return _nothing(dose, noise)
    for check in (_sign, transposed, _inverted, _too_much, _blank, _dead_views):
        found = check(values, geometry, dose)
        if found is not None:
            return [found]
    if step > _FEW_LEVELS * float(values.max()):
        words = f"whole numbers, of which there are {len(np.unique(values))}"
        hint = "save them as float32, before anything rounds them"
        return [Finding("steps", words, "line integrals rounded so coarsely", hint)]
    for check in (_saturated, _dead_bins):
        found = check(values, geometry, dose)
        if found is not None:
            return [found]
    placed, beyond = misplaced(values, geometry, dose), _beyond(values, geometry)
    if placed is not None and placed.cause == "contradiction" and beyond is not None:
        placed = None  # of what is cut off, every view sees another part
    rest = [placed, beyond, _noise(values, geometry, dose, noise), _faint(values, geometry)]
    return [each for each in rest if each is not None]


def _nothing(dose: Dose, noise: float) -> list[Finding]:
    """Of a scan that shows no object: all is well if it is as quiet as that."""
    quiet = 0.0 if dose.photons is None else float(dose.deviation(np.zeros((1, 1)))[0, 0])
    if noise <= max(3 * quiet, _QUIET):
        return []
    return [
        Finding(
            "nothing",
            f"noise of {noise:.2g} and hardly anything else",
            "a scan of something",
            "check that these are line integrals, and scale in the geometry",
        )
    ]


def _sign(values: Values, _: Geometry, __: Dose) -> Finding | None:
    below, above = -float(values.clip(max=0).sum()), float(values.clip(min=0).sum())
    if below <= 3 * above:
        return None
    return Finding(
        "sign",
        f"line integrals of {values.mean():.3g} on average: the wrong sign",
        "minus the logarithm of the part of the photons that arrives",
        "negate it",
        True,
    )


def _inverted(values: Values, _: Geometry, dose: Dose) -> Finding | None:
    """The most where nothing is in the way: photons, not what they lost."""
    profile, edge = values.mean(0), max(1, values.shape[1] // 32)
    air = min(float(np.median(values[:, :edge])), float(np.median(values[:, -edge:])))
    if air < 0.97 * float(profile.max()) or float(profile.min()) > 0.9 * air or float(values.min()) < 0:
        return None
    photons = air * dose.attenuation if dose.photons else None
    raw = air if photons is None else photons
    return Finding(
        "inverted",
        f"the largest numbers, about {raw:.4g}, at the detector's ends, and less behind the object",
        "line integrals, 0 where nothing is in the way: these look like "
        + ("transmissions" if 0.8 < raw < 1.25 else "counts"),
        "take minus the logarithm of them over what arrives without object",
        True,
    )


def _too_much(values: Values, geometry: Geometry, _: Dose) -> Finding | None:
    """Values of f lie in [0, 1], so that no integral is longer than its line within the disc."""
    offsets = geometry.lines[1].numpy().reshape(values.shape)
    chords = 2 * np.sqrt(np.clip(1 - offsets**2, 0, None))
    # Means over the views, against noise.
    excess = (values - chords).mean(0) - 3 * values.std(0) / math.sqrt(len(values)) - 0.1
    edge = max(1, geometry.bins // 32)
    if max(excess[:edge].max(), excess[-edge:].max()) > 0:
        return Finding(
            "ends",
            f"integrals of {max(values[:, 0].mean(), values[:, -1].mean()):.3g} at the detector's ends: "
            "truncated, or in other units",
            "nearly nothing there, as the object lies within the geometry's radius",
            "correct radius, width or scale in the geometry",
            True,
        )
    if excess.max() > 0:
        return Finding(
            "scale",
            f"integrals up to {values.max():.3g} times radius and scale",
            "at most 2, of an object of value 1 all over the disc",
            "correct scale (nepers per unit of length in what has value 1) or radius in the geometry",
            True,
        )
    return None


def _dead_views(values: Values, geometry: Geometry, _: Dose) -> Finding | None:
    if len(values) < 3:
        return None
    peak, mass = float(values.max()), np.abs(masses(values, geometry))
    constant = np.ptp(values, axis=1) <= 1e-6 * peak
    dead = constant | (mass < 0.3 * np.median(mass))
    if not dead.any() or dead.mean() > 0.5:
        return None
    words = "the same number in every bin" if constant[dead].all() else "hardly anything"
    return Finding(
        "dead views",
        f"{numbered('view', dead)} with {words}, where the others see an object",
        "views of the same object",
        "remove these views from sinogram and geometry",
        True,
    )


def _dead_bins(values: Values, geometry: Geometry, _: Dose) -> Finding | None:
    views, bins = values.shape
    if views < 3 or bins < 8:
        return None
    profile = values.mean(0)
    peak = float(profile.max())
    inner = np.flatnonzero((profile > 0.1 * peak) & (np.ptp(values, axis=0) > 1e-6 * peak))
    if len(inner) == 0:
        return None
    span = slice(inner[0], inner[-1] + 1)
    constant = np.zeros(bins, bool)
    constant[span] = np.ptp(values[:, span], axis=0) <= 1e-6 * peak
    if constant[span].mean() > 0.5:
        constant[:] = False  # of what is round about the axis, every view is the same
    low = _gaps(values, profile, peak)
    high = np.zeros(bins, bool)
    beside = np.maximum(profile[:-2], profile[2:]).clip(0)
    # What is thin and dense on the axis itself is as high in every view, too.
    away = np.abs(np.arange(1, bins - 1) - geometry.axis) > 2
    high[1:-1] = (profile[1:-1] > 2 * beside + 0.1 * peak) & away
    dead = constant | low | high
    if not dead.any():
        return None
    return Finding(
        "dead bins",
        f"{numbered('bin', dead)} in which every view has "
        + ("the same number" if constant.any() else "far less" if low.any() else "far more")
        + " than beside it",
        "a detector whose bins all measure",
        "fill them in from their neighbours, or measure again",
        bool(constant.any()) and views >= 8,
    )


def _gaps(values: Values, profile: Float64[np.ndarray, "B"], peak: float) -> Bool[np.ndarray, "B"]:
    """Bins, up to three side by side, that in nearly every view have far less than those on both sides."""
    found = np.zeros(len(profile), bool)
    for width in (1, 2, 3):
        for first in range(1, len(profile) - width):
            part, sides = slice(first, first + width), (first - 1, first + width)
            lower = min(
                float(profile[max(first - 3, 0) : first].min()), float(profile[part.stop : part.stop + 3].min())
            )
            if profile[part].max() >= 0.3 * lower or lower < 0.1 * peak:
                continue
            beside = np.minimum(values[:, sides[0]], values[:, sides[1]])
            if np.mean(values[:, part].max(1) < 0.5 * beside) >= 0.9:
                found[part] = True
    return found


def _saturated(values: Values, _: Geometry, dose: Dose) -> Finding | None:
    top = float(values.max())
    full = values >= top * (1 - 1e-7)
    runs = (full[:, :-2] & full[:, 1:-1] & full[:, 2:]).any(1)
    if dose.photons is not None:
        starved = values >= (math.log(dose.photons) / dose.attenuation) * (1 - 1e-6)
        if starved.mean() > 0.01:
            return Finding(
                "starved",
                f"{100 * starved.mean():.2g} % of the lines in which no photon was counted",
                "line integrals as long as that",
                "expect shadows along them, or measure with more photons",
            )
    if runs.sum() < max(3, 0.05 * len(values)):
        return None
    return Finding(
        "saturated",
        f"the largest number, {top:.3g}, in {int(full.sum())} lines, side by side: cut off there",
        "line integrals as long as that",
        "undo what limits them, or measure with more photons",
    )


def _blank(values: Values, _: Geometry, dose: Dose) -> Finding | None:
    profile, edge = values.mean(0), max(1, values.shape[1] // 32)
    least = max(_mean_error(values, dose), 0.02 * float(profile.max()))
    ends = min(float(profile[:edge].mean()), float(profile[-edge:].mean()))
    if values.shape[1] >= 16:
        # Two bins at each end that all have the same: an object's border falls.
        air = np.percentile(values[:, [0, 1, -2, -1]], 25, axis=0)
        if float(air.min()) > least and float(np.ptp(air)) < 0.1 * float(air.mean()) + white_noise(values):
            return Finding(
                "blank",
                f"the same {air.mean():.3g} at both of the detector's ends",
                "line integrals, 0 where nothing is in the way",
                "divide by the blank scan before the logarithm is taken",
            )
    if ends >= -least:
        return None
    return Finding(
        "blank",
        f"{ends:.3g} at the detector's ends, less than nothing",
        "noise",
        "divide by the blank scan before the logarithm is taken",
    )


def _mean_error(values: Values, dose: Dose) -> float:
    """Five standard deviations of a bin's mean over the views."""
    return 5 * float(np.sqrt(np.square(deviation_of(values, dose)).mean(0).max() / len(values)))


def _beyond(values: Values, geometry: Geometry) -> Finding | None:
    """What lies at the detector's ends, where an object within the disc leaves less and less."""
    profile = values.mean(0)
    least = max(5 * white_noise(values) / math.sqrt(len(values)), 0.05 * float(profile.max()))
    offsets = np.abs(geometry.lines[1].numpy()).reshape(values.shape).min(0)
    outside = profile[offsets > 1 + 2 * geometry.pitch]
    beyond = len(outside) > 0 and float(np.max(outside)) > least
    if geometry.bins >= 24:
        for side in (profile, profile[::-1]):
            flat = all(0.65 < side[0] / max(side[place], 1e-9) < 1.4 for place in (1, 3))
            beyond = beyond or bool(side[0] > least and flat)
    if not beyond:
        return None
    return Finding(
        "beyond",
        f"{max(profile[0], profile[-1]):.3g} at the detector's ends, where integrals through a disc fall to 0",
        "an object within the geometry's radius",
        "correct radius (what lies beyond it is put inside), or divide by the blank if nothing is there",
    )


def _noise(values: Values, geometry: Geometry, dose: Dose, noise: float) -> Finding | None:
    """Noise that is not there, or not stated."""
    air, samples = air_noise(values)
    if dose.photons is not None:
        stated = float(np.median(dose.deviation(values)))
        if geometry.bins >= 8 and noise < stated / 3:
            return Finding(
                "photons",
                f"noise of {noise:.2g}",
                f"of {dose.photons:.3g} photons, which leave {stated:.2g}",
                "correct photons or scale in the geometry; leave photons out for a clean scan",
            )
        quiet = float(dose.deviation(np.zeros((1, 1)))[0, 0])
        if samples >= 32 and air > 3 * quiet:
            return Finding(
                "photons",
                f"noise of {air:.2g} beside the object",
                f"of {dose.photons:.3g} photons, which leave {quiet:.2g} there",
                f"correct photons in the geometry: such noise has {1 / (dose.attenuation * air) ** 2:.1g}",
            )
        return None
    if samples >= 32 and air > _AIR:
        return Finding(
            "photons",
            f"noise of {air:.2g} beside the object",
            "a clean scan",
            f"say photons in the geometry: such noise has about {1 / (dose.attenuation * air) ** 2:.1g}",
        )
    return None


def air_noise(values: Values) -> tuple[float, int]:
    """The noise of lines beside the object, from bins at the detector's ends, and how many lines say it."""
    profile = np.abs(values.mean(0))
    clear = profile < 0.02 * float(profile.max())
    left, right = int(np.argmin(clear)), int(np.argmin(clear[::-1]))
    lines = np.concatenate([values[:, :left], values[:, values.shape[1] - right :]], axis=1)
    if lines.size == 0 or np.mean(lines < 0) < 0.25:
        return 0.0, lines.size
    return 1.4826 * float(np.median(np.abs(lines))), lines.size


def _faint(values: Values, geometry: Geometry) -> Finding | None:
    offsets = geometry.lines[1].numpy().reshape(values.shape)
    chords = 2 * np.sqrt(np.clip(1 - offsets**2, 0.19, None))
    level = float((values / chords).mean(0).max())
    if level >= _FAINT:
        return None
    return Finding(
        "faint",
        f"integrals that make a value of {level:.2g} at most, on average along lines",
        "an object whose values reach up to 1",
        "correct scale (nepers per unit of length in what has value 1) or radius in the geometry",
    )
