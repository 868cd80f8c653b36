"""Symbols come back, and a decoder written from the description alone, without the library's, finds the same."""

import zlib
from collections import defaultdict

import numpy as np
import pytest

from nid_dist.compact.stream import Symbols, decode, encode
from tests.compact.test_range_coder import WholeDecoder


def symbols(signals: int, experts: int, density: float, size: float, channels: int = 3, seed: int = 0) -> Symbols:
    """Some experts are used more than others, and more strongly; biases of neighbours are alike."""
    generator = np.random.default_rng(seed)
    usage = density * experts * generator.dirichlet(np.full(experts, 0.3))
    used = generator.random((signals, experts)) < usage
    values = np.rint(generator.laplace(0, size * (1 + 5 * usage), (signals, experts))) * used
    biases = np.cumsum(generator.integers(-3, 4, (signals, channels)), 0)
    return Symbols(values.astype(np.int64), biases.astype(np.int64))


CASES = [
    (symbols(24, 60, 0.2, 2.0), 6),
    (symbols(10, 7, 5.0, 1e6, channels=1), 10),
    (symbols(5, 3, 0.0, 1.0), 2),
    (symbols(0, 4, 1.0, 1.0), 1),
    (Symbols(np.full((3, 5), -1), np.array([[2**30], [-(2**30)], [0]])), 2),
]


@pytest.mark.parametrize(("given", "columns"), CASES)
def test_round_trip(given: Symbols, columns: int) -> None:
    shape = (*given.values.shape, given.biases.shape[1])
    found = decode(encode(given, columns), *shape, columns)
    np.testing.assert_array_equal(found.values, given.values)
    np.testing.assert_array_equal(found.biases, given.biases)


@pytest.mark.parametrize(("given", "columns"), CASES)
def test_the_description_alone(given: Symbols, columns: int) -> None:
    values, biases = read_slowly(encode(given, columns), *given.values.shape, given.biases.shape[1], columns)
    assert values == given.values.tolist() and biases == given.biases.tolist()


def test_less_than_a_general_compressor() -> None:
    given = symbols(200, 256, 0.1, 2.0)
    rows, experts = given.values.nonzero()
    plain = [np.diff(experts, prepend=0).astype(np.int16), given.values[rows, experts].astype(np.int16), given.biases]
    packed = sum(len(zlib.compress(each.astype(np.int16).tobytes(), 9)) for each in plain)
    assert len(encode(given, 20)) < 0.7 * packed


def read_slowly(
    encoded: bytes, signals: int, experts: int, channels: int, columns: int
) -> tuple[list[list[int]], list[list[int]]]:
    """As `nid_dist/compact/stream.py` says, with lists and a decoder of unbounded numbers."""
    coder, counts = WholeDecoder(encoded), defaultdict[object, list[int]](lambda: [0, 0])

    def adaptive(context: object) -> int:
        zeros, ones = counts[context]
        chance = min(max((2 * ones + 1) * 65536 // (2 * (zeros + ones) + 2), 32), 65504)
        bit = coder.bit(chance)
        counts[context][bit] += 1
        if zeros + ones + 1 > 1024:
            counts[context] = [each // 2 for each in counts[context]]
        return bit

    def number(context: object) -> int:
        length = 0
        while adaptive((context, length)):
            length += 1
        digits = "1"
        for place in range(length):
            digits += str(adaptive((context, length, digits)) if place < 2 else coder.bit(32768))
        return int(digits, 2) - 1

    values, biases, supports = [], [], []
    uses, sizes = [0] * experts, [0] * experts
    for signal in range(signals):
        near = ([signal - 1] if signal % columns else []) + ([signal - columns] if signal >= columns else [])
        usual = sum(supports[each] for each in near) // max(1, len(near))
        left = number(("count", usual.bit_length()))
        supports.append(left)
        prior = 64 * 6 * max(1, sum(uses)) // (max(1, signal) * experts) + 1
        weights, row, last = [64 * used + prior for used in uses], [0] * experts, 1
        for expert in range(experts):
            if not left:
                break
            rest = sum(weights[expert:])
            if left < experts - expert and not coder.bit(min(max(left * weights[expert] * 65536 // rest, 16), 64512)):
                continue
            size_class = min((2 * sizes[expert] // uses[expert]).bit_length(), 6) if uses[expert] else 0
            size = number(("size", size_class, min(last.bit_length(), 3))) + 1
            row[expert] = -size if coder.bit(32768) else size
            left, last = left - 1, size
        for expert in range(experts):
            uses[expert] += row[expert] != 0
            sizes[expert] += abs(row[expert])
        values.append(row)
        off, colour = 0, []
        for channel in range(channels):
            expected = sum(biases[each][channel] for each in near) // max(1, len(near)) + off
            folded = number(("bias", min(channel, 1), len(near) > 0))
            change = (folded + 1) // 2 if folded % 2 else -(folded // 2)
            colour.append(expected + change)
            off += change
        biases.append(colour)
    return values, biases
