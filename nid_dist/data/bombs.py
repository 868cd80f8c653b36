"""Compressed data that grow beyond what their file promises: found out in pieces, before a decoder holds them all."""

import lzma
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nid_dist.errors import UserError

_PIECE = 2**20  # bytes
_HARMLESS = 2**28  # bytes that may be held in any case
_MOST = 1032  # times, that Deflate can make of its data at most


def refuse_inflating(path: Path, parts: Iterable[bytes], limit: int, kind: str) -> None:
    """Refuse compressed parts of a file that hold more than they should.

    Args:
        parts: of the file, each compressed by itself.
        limit: bytes that all should be together, decompressed.
        kind: `zlib`, `deflate` (without a header) or `lzma`.

    Raises:
        UserError: when they are more.
    """
    left = max(limit, _HARMLESS)
    for part in parts:
        if kind != "lzma" and len(part) * _MOST <= _PIECE:
            continue
        left -= _length(part, left, kind)
        if left < 0:
            raise UserError(
                str(path),
                found="compressed data that grow far beyond what it says of them (a decompression bomb?)",
                expected=f"at most {max(limit, _HARMLESS)} bytes",
                hint="remove it",
            )


def _length(data: bytes, enough: int, kind: str) -> int:
    """Bytes that data are decompressed, or a few more than enough."""
    found = 0
    try:
        decoder: Any = lzma.LZMADecompressor() if kind == "lzma" else zlib.decompressobj(15 if kind == "zlib" else -15)
        while found <= enough:
            piece = decoder.decompress(data, _PIECE)
            found += len(piece)
            if decoder.eof or not piece:
                break
            data = b"" if kind == "lzma" else decoder.unconsumed_tail
    except (zlib.error, lzma.LZMAError):
        pass  # damaged: the decoder itself will say so
    return found
