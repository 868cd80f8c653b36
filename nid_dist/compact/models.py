"""Adaptive models of bits and numbers: both sides count what has come, and expect more of it."""

from collections.abc import Hashable

from nid_dist.compact.range_coder import ONE, BitCoder

_MOST = 1024  # that is counted, before what is long ago counts half
_RAW = ONE // 2


class AdaptiveNumbers:
    """Whole numbers from 0 on, in Elias' gamma code whose bits are adaptive (Elias 1975).

    Numbers of different contexts are told from each other: each context has its own counts.
    """

    def __init__(self) -> None:
        self._counts: dict[Hashable, list[int]] = {}

    def code(self, coder: BitCoder, context: Hashable, value: int = 0) -> int:
        """Write a number, or read it."""
        value, length = value + 1, 0
        while self.bit(coder, (context, length), int(value >> length + 1 > 0)):
            length += 1
            if length > _LONGEST:
                raise ValueError("a number of more bits than there are")
        found = 1
        for place in range(length - 1, -1, -1):
            bit = value >> place & 1
            # What is below the two leading ones is noise.
            bit = self.bit(coder, (context, length, found), bit) if length - place <= 2 else coder.bit(_RAW, bit)
            found = 2 * found + bit
        return found - 1

    def code_signed(self, coder: BitCoder, context: Hashable, value: int = 0) -> int:
        """As `code`, a number of either sign."""
        found = self.code(coder, context, 2 * value - 1 if value > 0 else -2 * value)
        return (found + 1) // 2 if found % 2 else -(found // 2)

    def bit(self, coder: BitCoder, context: Hashable, value: int = 0) -> int:
        """Write a bit, or read it, by how often it was 1 in this context (Krichevsky and Trofimov 1981)."""
        counts = self._counts.setdefault(context, [0, 0])
        probability = (2 * counts[1] + 1) * ONE // (2 * (counts[0] + counts[1]) + 2)
        value = coder.bit(min(max(probability, 32), ONE - 32), value)
        counts[value] += 1
        if counts[0] + counts[1] > _MOST:
            counts[0], counts[1] = counts[0] // 2, counts[1] // 2
        return value


_LONGEST = 40
