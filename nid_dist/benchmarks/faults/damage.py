"""Checkpoints at rest that come to harm: bits that flip, files that are cut, lost or exchanged."""

import json
import os
import time
from pathlib import Path
from random import Random

FACTS = "facts.json"


def flip(path: Path, chance: Random) -> None:
    """Change one byte, so that what the file says is another thing."""
    data = bytearray(path.read_bytes())
    before = json.loads(data) if path.name == FACTS else None
    while True:
        place, mask = chance.randrange(len(data)), chance.randrange(1, 256)
        data[place] ^= mask
        if before is None or not _says(data, before):
            break
        data[place] ^= mask  # a space for a tab
    path.write_bytes(data)


def cut(path: Path, chance: Random) -> None:
    """Keep the beginning, which may be nothing."""
    os.truncate(path, chance.randrange(path.stat().st_size))


def blank(path: Path, chance: Random) -> None:
    """Let the end be zeros, as after a loss of power."""
    data = path.read_bytes()
    count = chance.randrange(1, min(len(data), 4096))
    if any(data[-count:]):
        path.write_bytes(data[:-count] + bytes(count))
    else:
        path.write_bytes(bytes(len(data)))


def change_times(folder: Path, chance: Random) -> None:
    """Let files and folders have been changed at other times, up to ten years ago or to come."""
    for path in (folder, *folder.rglob("*")):
        when = time.time() + chance.uniform(-1.0, 1.0) * 10 * 365 * 86400
        os.utime(path, (when, when))


def _says(data: bytes | bytearray, before: object) -> bool:
    try:
        return bool(json.loads(data) == before)
    except (ValueError, RecursionError):
        return False
