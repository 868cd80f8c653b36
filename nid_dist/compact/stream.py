"""Quantised sparse codes as a stream of bits, one format for writing and reading.

Of each signal: how many coefficients it has, which of the n experts have one, how large each is, its sign, and its
biases. An expert is expected as often as it was used by the signals before; a magnitude is expected as that expert's
were; a number of coefficients and a bias as those of the neighbours on the left and above.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from nid_dist.compact.models import AdaptiveNumbers
from nid_dist.compact.range_coder import ONE, BitCoder, Decoder, Encoder

_PRIOR = 6  # signals, that an expert which has not been used counts as having been seen in
_FINE = 64  # parts of one use
_LEAST, _MOST = 16, ONE - ONE // 64  # of the probability of a coefficient
_SIZES = 6  # classes of magnitudes


@dataclass
class Symbols:
    """Whole numbers that are codes in units of their steps."""

    values: Int64[np.ndarray, "T n"]  # of every expert, 0 where there is no coefficient
    biases: Int64[np.ndarray, "T d"]


def encode(symbols: Symbols, columns: int) -> bytes:
    """To bytes; `columns` are the signals in a row, where these lie beside each other in an image."""
    coder = Encoder()
    _code(coder, symbols, columns)
    return coder.finish()


def decode(encoded: bytes, signals: int, experts: int, channels: int, columns: int) -> Symbols:
    """From bytes.

    Raises:
        ValueError: for bytes that no `encode` has made.
    """
    symbols = Symbols(np.zeros((signals, experts), np.int64), np.zeros((signals, channels), np.int64))
    _code(Decoder(encoded), symbols, columns)
    return symbols


def _code(coder: BitCoder, symbols: Symbols, columns: int) -> None:
    """Write the symbols, or read them into their place."""
    signals, experts = symbols.values.shape
    numbers, sums = AdaptiveNumbers(), np.zeros((2, experts), np.int64)
    supports = [0] * signals
    for signal in range(signals):
        left = signal - 1 if signal % columns else None
        above = signal - columns if signal >= columns else None
        near = [place for place in (left, above) if place is not None]
        expected = sum(supports[place] for place in near) // max(1, len(near))
        row = symbols.values[signal]
        count = numbers.code(coder, ("count", expected.bit_length()), int(np.count_nonzero(row)))
        if count > experts:
            raise ValueError("more coefficients than experts")
        supports[signal] = count
        _code_row(coder, numbers, row, count, sums, signal)
        _code_biases(coder, numbers, symbols.biases, signal, near)


def _code_row(
    coder: BitCoder, numbers: AdaptiveNumbers, row: Int64[np.ndarray, "n"], count: int, sums: np.ndarray, before: int
) -> None:
    """The coefficients of a signal: `sums` are how often each expert was used, and its magnitudes."""
    used, magnitudes = sums
    prior = _FINE * _PRIOR * max(1, int(used.sum())) // (max(1, before) * len(row)) + 1
    weights = (_FINE * used + prior).tolist()
    rest, left, given = sum(weights), count, row.tolist()
    uses, sizes, last = used.tolist(), magnitudes.tolist(), 1
    for expert, weight in enumerate(weights):
        if not left:
            break
        there = 1
        if left < len(weights) - expert:  # all that are left would have one
            there = coder.bit(min(max(left * weight * ONE // rest, _LEAST), _MOST), int(given[expert] != 0))
        rest -= weight
        if there:
            left -= 1
            usual = min((2 * sizes[expert] // uses[expert]).bit_length(), _SIZES) if uses[expert] else 0
            size = 1 + numbers.code(coder, ("size", usual, min(last.bit_length(), 3)), abs(given[expert]) - 1)
            negative = coder.bit(ONE // 2, int(given[expert] < 0))
            row[expert], last = -size if negative else size, size
            used[expert] += 1
            magnitudes[expert] += size


def _code_biases(
    coder: BitCoder, numbers: AdaptiveNumbers, biases: Int64[np.ndarray, "T d"], signal: int, near: list[int]
) -> None:
    """Each less the mean of its neighbours'; in colour the channels change together."""
    off = 0
    for channel in range(biases.shape[1]):
        expected = sum(int(biases[place, channel]) for place in near) // max(1, len(near)) + off
        given = int(biases[signal, channel]) - expected
        found = numbers.code_signed(coder, ("bias", min(channel, 1), len(near) > 0), given)
        biases[signal, channel] = expected + found
        off += found
