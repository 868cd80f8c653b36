"""Damage to a file's bytes: what disks, networks, editors and other programs do to it."""

import re
from collections.abc import Callable, Sequence

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]

_HEADER = 512  # bytes in which most files say what they hold
_EXTREME = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**64 - 1)
_WORDS = (
    b"nan", b"inf", b"-1", b"0", b"1e400", b"-1e308", b"99999999999999999999", b"0x10", b"1,5", b"1.5", b"", b"null",
    b"true", b"[]", b"{}", b"*a", b"&a", b"!!python/object:os.system", b"../../../escaped", b"/", b"~", b"\xff\xfe",
    b"\x00", b"'", b'"', b"#", b"%s", b"\xe2\x80\xae", b"- ", b": ",
)  # fmt: skip
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9]*")


def _place(data: bytes, generator: np.random.Generator) -> int:
    """Anywhere, but half of the time where headers are."""
    end = len(data) if generator.random() < 0.5 else min(_HEADER, len(data))
    return int(generator.integers(max(1, end)))


def _flip(data: bytes, generator: np.random.Generator) -> bytes:
    out = bytearray(data)
    for _ in range(int(generator.choice([1, 1, 1, 4, 32]))):
        if out:
            out[_place(data, generator)] ^= 1 << int(generator.integers(8))
    return bytes(out)


def _random_bytes(data: bytes, generator: np.random.Generator) -> bytes:
    at, size = _place(data, generator), int(generator.integers(1, 64))
    return data[:at] + generator.bytes(size) + data[at + size :]


def _number(data: bytes, generator: np.random.Generator) -> bytes:
    """A field of a header says something that no file holds."""
    at, size = _place(data, generator), int(generator.choice([1, 2, 4, 8]))
    value = int(generator.choice(len(_EXTREME)))
    order = "little" if generator.random() < 0.5 else "big"
    number = (_EXTREME[value] % 2 ** (8 * size)).to_bytes(size, order)
    return data[:at] + number + data[at + size :]


def _cut(data: bytes, generator: np.random.Generator) -> bytes:
    return data[: int(generator.integers(len(data) + 1))]


def _cut_begin(data: bytes, generator: np.random.Generator) -> bytes:
    return data[_place(data, generator) :]


def _drop(data: bytes, generator: np.random.Generator) -> bytes:
    at, size = _place(data, generator), int(generator.integers(1, max(2, len(data) // 4)))
    return data[:at] + data[at + size :]


def _repeat(data: bytes, generator: np.random.Generator) -> bytes:
    at, size = _place(data, generator), int(generator.integers(1, max(2, len(data) // 4)))
    return data[: at + size] + data[at : at + size] * int(generator.integers(1, 4)) + data[at + size :]


def _swap(data: bytes, generator: np.random.Generator) -> bytes:
    first, second = sorted(int(each) for each in generator.integers(len(data) + 1, size=2))
    middle = int(generator.integers(first, second + 1))
    return data[:first] + data[middle:second] + data[first:middle] + data[second:]


def _blank(data: bytes, generator: np.random.Generator) -> bytes:
    """A sector that was never written."""
    at, size = _place(data, generator), int(generator.choice([1, 16, 512, 4096]))
    size = min(size, len(data) - at)
    return data[:at] + (b"\x00" if generator.random() < 0.7 else b"\xff") * size + data[at + size :]


def _longer(data: bytes, generator: np.random.Generator) -> bytes:
    return data + generator.bytes(int(generator.integers(1, 4096)))


def _nothing(data: bytes, generator: np.random.Generator) -> bytes:
    return b""


def _text_word(data: bytes, generator: np.random.Generator) -> bytes:
    """Another word or number in place of one."""
    pattern = _NUMBER if generator.random() < 0.6 else _WORD
    found = list(pattern.finditer(data[:_FAR]))
    if not found:
        return _flip(data, generator)
    each = found[int(generator.integers(len(found)))]
    return data[: each.start()] + _WORDS[int(generator.integers(len(_WORDS)))] + data[each.end() :]


def _text_lines(data: bytes, generator: np.random.Generator) -> bytes:
    """A line is missing, there twice, in another place, or cut."""
    lines = data.split(b"\n")
    one, other = (int(each) for each in generator.integers(len(lines), size=2))
    kind = int(generator.integers(5))
    if kind == 0:
        del lines[one]
    elif kind == 1:
        lines.insert(other, lines[one])
    elif kind == 2:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == 3:
        lines[one] = lines[one][: len(lines[one]) // 2]
    else:
        lines[one] = lines[one] + b" " + _WORDS[int(generator.integers(len(_WORDS)))]
    return b"\n".join(lines)


def _text_coding(data: bytes, generator: np.random.Generator) -> bytes:
    """Written by an editor that thinks of another alphabet or another system."""
    text = data.decode("latin-1")
    ways = (
        data.replace(b"\n", b"\r\n"),
        data.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + data,
        text.encode("utf-16"),
        text.encode("utf-32"),
        data.replace(b" ", b"\t"),
        data.replace(b".", b","),
        data.replace(b" ", "\u00a0".encode()),
    )
    return ways[int(generator.integers(len(ways)))]


_FAR = 20_000  # bytes that words are looked for in
ANY: dict[str, Damage] = {
    "bits flipped": _flip,
    "random bytes": _random_bytes,
    "an extreme number": _number,
    "cut": _cut,
    "without its beginning": _cut_begin,
    "a part missing": _drop,
    "a part repeated": _repeat,
    "parts exchanged": _swap,
    "blank": _blank,
    "longer": _longer,
    "empty": _nothing,
}
TEXT: dict[str, Damage] = {"another word": _text_word, "lines": _text_lines, "another coding": _text_coding}
_OFTEN = ("bits flipped", "an extreme number", "cut")


def damaged(data: bytes, generator: np.random.Generator, others: Sequence[bytes]) -> tuple[str, bytes]:
    """A file's bytes after something has happened to them, which is named; what others hold may take their place."""
    text = b"\x00" not in data[:_FAR]
    kinds = [*ANY, *_OFTEN, *(3 * [*TEXT] if text else [])]
    name = kinds[int(generator.integers(len(kinds)))]
    if name == "empty" and generator.random() < 0.8:  # once is enough
        name = "another file"
        return name, others[int(generator.integers(len(others)))]
    return name, {**ANY, **TEXT}[name](data, generator)
