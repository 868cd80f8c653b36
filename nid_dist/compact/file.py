"""Codes of one solver in a file of few bytes: a short header, and a stream that `nid_dist.compact.stream` describes.

`NIDC`, the version (1 byte), CRC-32 of all that follows (4 bytes), the length of the facts (2 bytes), the facts (JSON,
compressed by zlib with a dictionary of the words that are usual), the stream. No number of it is machine-dependent.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.compact.stream import Symbols, decode, encode
from nid_dist.errors import UserError
from nid_dist.files import expanded, replacing

MAGIC = b"NIDC"
_VERSION = 1
_HEADER = struct.Struct(">4sBIH")
_WORDS = (
    b'"height":128,"width":128,"patch":16,"stride":16,"image":".jpeg.jpg.png","experts":1024,"methods":["adam10"'
    b'"init""irls""fista""map""ridge""omp"],"step":0.0,"bias_step":0.0,"signals":,"channels":3,"columns":null,'
)
_MOST = 2**31  # numbers that a file may be decoded to
_NEEDED = ("signals", "experts", "channels", "columns", "step", "bias_step", "methods")


def save_compact(path: str | Path, symbols: Symbols, step: float, bias_step: float, facts: dict[str, Any]) -> int:
    """Write what `compact_bytes` makes into a file; returns the number of its bytes.

    Raises:
        UserError: when it cannot be written.
    """
    content = compact_bytes(symbols, step, bias_step, facts)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return len(content)


def compact_bytes(symbols: Symbols, step: float, bias_step: float, facts: dict[str, Any]) -> bytes:
    """The file of codes in units of their steps.

    `facts` name the solver (`methods`, of one), `columns`, the signals in a row of an image, and anything that JSON
    can hold.
    """
    (signals, experts), channels = symbols.values.shape, symbols.biases.shape[1]
    facts = {"columns": max(1, signals), **facts, "signals": signals, "experts": experts, "channels": channels}
    facts |= {"step": step, "bias_step": bias_step}
    packer = zlib.compressobj(9, wbits=-15, zdict=_WORDS)
    header = packer.compress(json.dumps(facts, separators=(",", ":")).encode()) + packer.flush()
    body = struct.pack(">H", len(header)) + header + encode(symbols, facts["columns"])
    return struct.pack(">4sBI", MAGIC, _VERSION, zlib.crc32(body)) + body


def is_compact(path: str | Path) -> bool:
    """Whether a file says that it is one of these."""
    try:
        with expanded(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def load_compact(path: str | Path) -> tuple[Symbols, dict[str, Any]]:
    """Read a file of `save_compact`: codes in units of `step` and `bias_step` of the facts.

    Raises:
        UserError: when it is not such a file, or is damaged.
    """
    try:
        content = expanded(path).read_bytes()
        magic, version, checksum, length = _HEADER.unpack_from(content)
        if magic != MAGIC or version != _VERSION:
            raise ValueError(f"version {version}")
        if zlib.crc32(content[_HEADER.size - 2 :]) != checksum:
            raise ValueError("damaged: its checksum differs")
        packed, stream = content[_HEADER.size :][:length], content[_HEADER.size + length :]
        unpacker = zlib.decompressobj(wbits=-15, zdict=_WORDS)
        facts = json.loads(unpacker.decompress(packed, 2**20))
        signals, experts, channels, columns = (int(facts[name]) for name in _NEEDED[:4])
        if min(signals, channels) < 0 or min(experts, columns) < 1 or signals * (experts + channels) > _MOST:
            raise ValueError(f"{signals} signals of {experts} experts")
        if not all(np.isfinite(float(facts[name])) for name in _NEEDED[4:6]) or len(facts["methods"]) != 1:
            raise ValueError("no steps, or not one solver")
        return decode(stream, signals, experts, channels, columns), facts
    except (OSError, struct.error, zlib.error, KeyError, ValueError, TypeError, RecursionError) as error:
        found = "damaged codes" if isinstance(error, struct.error | zlib.error) else f"no codes ({error})"
        raise UserError(
            str(path), found=found, expected="a file that nid-fit --store compact wrote", hint="fit again"
        ) from error
