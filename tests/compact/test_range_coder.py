"""Bits come back, in about as many bytes as theory allows, and a decoder that never drops a digit agrees."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from nid_dist.compact.range_coder import ONE, Decoder, Encoder


class WholeDecoder:
    """The interval as one number of unbounded length: nothing is shifted out, nothing is carried."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded, self.low, self.high, self.digits = encoded, 0, 2**32 - 1, 4

    def bit(self, probability: int, value: int = 0) -> int:
        border = self.low + (self.high - self.low) * probability // ONE
        number = int.from_bytes(self.encoded[: self.digits].ljust(self.digits, b"\0"), "big")
        if number <= border:
            self.high, value = border, 1
        else:
            self.low, value = border + 1, 0
        while self.low // 2**24 == self.high // 2**24:
            self.low, self.high, self.digits = 256 * self.low, 256 * self.high + 255, self.digits + 1
        return value


def drawn(kind: str, count: int = 4000) -> tuple[list[int], list[int]]:
    generator = np.random.default_rng(len(kind))
    probabilities = {
        "any": generator.integers(1, ONE, count),
        "even": np.full(count, ONE // 2),
        "rare": np.full(count, 1),
        "usual": np.full(count, ONE - 1),
    }[kind]
    bits = generator.random(count) < probabilities / ONE
    return probabilities.tolist(), bits.astype(int).tolist()


def encoded(probabilities: Sequence[int], bits: Sequence[int]) -> bytes:
    coder = Encoder()
    for probability, bit in zip(probabilities, bits, strict=True):
        assert coder.bit(probability, bit) == bit
    return coder.finish()


@pytest.mark.parametrize("kind", ["any", "even", "rare", "usual"])
@pytest.mark.parametrize("wrong", [False, True])
def test_round_trip(kind: str, wrong: bool) -> None:
    probabilities, bits = drawn(kind)
    if wrong:
        bits = [1 - bit for bit in bits[:300]]
        probabilities = probabilities[:300]
    content = encoded(probabilities, bits)
    for decoder in (Decoder(content), WholeDecoder(content)):
        assert [decoder.bit(probability) for probability in probabilities] == bits
    chances = [p / ONE if bit else 1 - p / ONE for p, bit in zip(probabilities, bits, strict=True)]
    assert 8 * len(content) <= 1.01 * -sum(map(math.log2, chances)) + 32


def test_nothing_is_nothing() -> None:
    assert encoded([], []) == b""
    assert Decoder(b"").bit(ONE // 2) in (0, 1)
