"""Samples of any type as numbers in [0, 1]: what is white is said by the type, or by who gives them."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Shaped

from nid_dist.errors import UserError, doubt

DEPTHS = (8, 16)
"""The fewest and the most bits of a sample in 16."""
# Float files written by resizing programs overshoot 1 by rounding; more than this is another scale.
_ROUNDING = 1e-5
_USUAL_DEPTHS = (8, 10, 12, 14)  # of sensors, whose samples are stored in 16 bits


def unit_values(
    where: str | Path, samples: Shaped[np.ndarray, "H W c"], bits: int | None = None
) -> Float32[np.ndarray, "H W c"]:
    """Samples that are bool, uint8, uint16, or floats in [0, 1], as numbers in [0, 1].

    Args:
        where: they are from, for messages.
        samples: with alpha, where c is 2 or 4.
        bits: how many of the 16 of uint16 are used, so that white is 2^bits - 1; None: all of them.

    Raises:
        UserError: for other types, samples beyond white, and floats that are not finite.

    Warns:
        DoubtfulMeaning: when nothing is brighter than a quarter of white in 16 bits, which are then hardly used, or
            anything is almost black.
    """
    if samples.dtype == np.bool_:
        return samples.astype(np.float32)
    colours = samples[..., :-1] if samples.shape[-1] in (2, 4) else samples
    if samples.dtype == np.uint8:
        if colours.size and (int(colours.min()), int(colours.max())) == (0, 1):
            _doubt_black(where, "8-bit samples of 0 and 1 only")
        return samples.astype(np.float32) / np.float32(255)
    if samples.dtype == np.uint16:
        white = np.full(samples.shape[-1], _white(where, colours, bits), np.float32)
        if colours is not samples and samples[..., -1].max() > white[-1]:
            white[-1] = 65535  # alpha that has been made of a transparent colour
        return samples.astype(np.float32) / white
    if samples.dtype.kind == "f":
        _check_floats(where, np.asarray(samples))
        if 0 < float(colours.max(initial=0)) <= 1 / 255 + _ROUNDING:
            _doubt_black(where, f"float samples up to {float(colours.max()):.4g}")
        return np.clip(samples, 0, 1).astype(np.float32)
    raise UserError(
        str(where),
        found=f"samples of type {samples.dtype}",
        expected="uint8, uint16 or float in [0, 1]",
        hint="convert them to one of these types",
    )


def _white(where: str | Path, colours: Shaped[np.ndarray, "H W c"], bits: int | None) -> int:
    brightest = int(colours.max()) if colours.size else 0
    if bits is not None:
        if brightest >= 2**bits:
            raise UserError(
                str(where),
                found=f"samples up to {brightest}",
                expected=f"at most {2**bits - 1}, as {bits} bits are said to be used",
                hint=f"choose {brightest.bit_length()} bits or more (signals.bits, --bits)",
            )
        return int(2**bits - 1)
    depth = next((depth for depth in _USUAL_DEPTHS if brightest < 2**depth), None)
    if depth is not None and brightest:
        doubt(
            str(where),
            found=f"16-bit samples up to {brightest}, as of {depth} bits",
            taken_as="16 bits, of which 65535 is white, so that all is dark",
            hint=f"say how many are used (signals.bits: {depth}, --bits {depth}), or scale them",
        )
    return 65535


def _doubt_black(where: str | Path, found: str) -> None:
    doubt(str(where), found=found, taken_as="almost black", hint="scale them if 1 is to be white")


def _check_floats(where: str | Path, samples: Float[np.ndarray, "H W c"]) -> None:
    broken = int(samples.size - np.isfinite(samples).sum())
    if broken:
        raise UserError(
            str(where),
            found=f"{broken} samples that are NaN or infinite",
            expected="finite samples in [0, 1]",
            hint="replace them, e.g. by numpy.nan_to_num",
        )
    low, high = float(samples.min()), float(samples.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise UserError(
            str(where),
            found=f"float samples from {low:g} to {high:g}",
            expected="float samples in [0, 1]",
            hint="scale them to [0, 1] before saving",
        )
