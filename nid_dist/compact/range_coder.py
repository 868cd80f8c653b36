"""Binary arithmetic coding in integers: the same bytes on every machine (Witten, Neal and Cleary 1987).

An interval of 32 bits is divided at each bit in proportion to its probability; leading bytes that both ends have in
common are done with.
"""

from typing import Protocol, runtime_checkable

ONE = 2**16
"""Certainty: probabilities are multiples of 1 / ONE."""

_TOP, _ALL = 0xFF000000, 0xFFFFFFFF


@runtime_checkable
class BitCoder(Protocol):
    """An encoder, which is given each bit, or a decoder, which finds it: who calls one describes the format of both."""

    def bit(self, probability: int, value: int = 0) -> int:
        """Write or read a bit that is 1 with `probability` / ONE, strictly between 0 and 1; returns the bit."""
        ...


class Encoder:
    """Bits to bytes."""

    def __init__(self) -> None:
        self._low, self._high, self._bytes = 0, _ALL, bytearray()

    def bit(self, probability: int, value: int = 0) -> int:
        """Append a bit."""
        middle = self._low + ((self._high - self._low) * probability >> 16)
        if value:
            self._high = middle
        else:
            self._low = middle + 1
        while not (self._low ^ self._high) & _TOP:
            self._bytes.append(self._high >> 24)
            self._low, self._high = self._low << 8 & _ALL, self._high << 8 & _ALL | 0xFF
        return value

    def finish(self) -> bytes:
        """All bytes; a decoder takes zeros for what follows them."""
        for kept in (8, 16, 24, 32):
            end = self._low + (1 << 32 - kept) - 1 >> 32 - kept << 32 - kept
            if end <= self._high:
                return bytes(self._bytes + end.to_bytes(4, "big")[: kept // 8]).rstrip(b"\0")
        raise AssertionError


class Decoder:
    """Bytes to bits; more bits than were written are some bits or other."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded, self._place = encoded, 4
        self._low, self._high, self._at = 0, _ALL, int.from_bytes(encoded[:4].ljust(4, b"\0"), "big")

    def bit(self, probability: int, value: int = 0) -> int:
        """Read the next bit."""
        middle = self._low + ((self._high - self._low) * probability >> 16)
        value = int(self._at <= middle)
        if value:
            self._high = middle
        else:
            self._low = middle + 1
        while not (self._low ^ self._high) & _TOP:
            self._low, self._high = self._low << 8 & _ALL, self._high << 8 & _ALL | 0xFF
            following = self._encoded[self._place] if self._place < len(self._encoded) else 0
            self._at, self._place = self._at << 8 & _ALL | following, self._place + 1
        return value
