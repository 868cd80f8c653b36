"""Columns of numbers in text, as tools write clouds: blanks, commas, semicolons or tabs between them, and a header."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nid_dist.errors import doubt
from nid_dist.tasks.shapes.formats.cut import doubt_cut

_DECIMAL = re.compile(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?$")
_NAME = re.compile(r"[\"']?[A-Za-z_]\w*[\"']?$")
_NOT_A_NAME = ("nan", "inf", "infinity")


def read_columns(path: Path) -> tuple[Float[np.ndarray, "P c"], list[str]]:
    """A row of numbers for each line, and the columns' names in lower case; no names where no header says any.

    Lines that begin with # or // are comments, but for a last one before the numbers that names x, y and z. A first
    line with one number is that of the points.

    Raises:
        ValueError: by line, for what is no number, and for lines of different lengths.

    Warns:
        DoubtfulMeaning: of decimal commas, and of a last line that was cut.
    """
    data = path.read_bytes()
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    doubt_cut(path, text)
    lines = list(enumerate(text.split("\n"), 1))
    comments = [line.strip().lstrip("#/ ") for _, line in lines[:100] if line.strip().startswith(("#", "//"))]
    rows = [(number, line) for number, line in lines if line.strip() and not line.lstrip().startswith(("#", "//"))]
    promised = None
    if len(rows) > 1 and rows[0][1].split()[0].isdigit() and len(rows[0][1].split()) == 1:
        promised = int(rows.pop(0)[1])
        if promised != len(rows):
            raise ValueError(f"{len(rows)} of {promised} points, which its first line says")
    names: list[str] = []
    if rows and _is_header(_words(rows[0][1])):
        names = [word.strip("\"'").lower() for word in _words(rows.pop(0)[1])]
    if not rows:
        return np.zeros((0, 3)), names
    clean = _separated([line for _, line in rows], path)
    width = len(clean[0].split())
    if not names and comments:
        last = [word.strip("\"'").lower() for word in _words(comments[-1])]
        names = last if len(last) == width and {"x", "y", "z"} <= set(last) else []
    if names and len(names) != width:
        raise ValueError(f"line {rows[0][0]}: {width} numbers below a header of {len(names)} names")
    try:
        words = " ".join(clean).split()
        if len(words) == width * len(rows):
            table = np.array(list(map(float, words))).reshape(-1, width)
            if len(rows) < 2 or len(clean[-1].split()) == width:
                return table, names
    except ValueError:
        pass
    for (number, line), each in zip(rows, clean, strict=True):
        _check(number, line, each.split(), width)
    return np.array([list(map(float, each.split())) for each in clean]), names


def _check(number: int, line: str, words: list[str], width: int) -> None:
    if len(words) != width:
        raise ValueError(f"line {number}: {line.strip()[:60]!r}: {len(words)} numbers instead of {width}")
    for word in words:
        try:
            float(word)
        except ValueError:
            raise ValueError(f"line {number}: {line.strip()[:60]!r}: {word!r} is no number") from None


def _words(line: str) -> list[str]:
    return [word for word in re.split(r"[\s,;]+", line.strip()) if word]


def _is_header(words: list[str]) -> bool:
    return bool(words) and all(_NAME.match(word) and word.lower() not in _NOT_A_NAME for word in words)


def _separated(lines: list[str], path: Path) -> list[str]:
    """The lines with blanks between their numbers and points within them."""
    first = lines[0].strip()
    if ";" in first:
        decimal = "," in first and "." not in first
        return [(line.replace(",", ".") if decimal else line).replace(";", " ") for line in lines]
    words = first.split()
    if "," in first and len(words) >= 3 and all(_DECIMAL.match(word) for word in words):
        doubt(
            str(path),
            found=f"commas within numbers and blanks between them ({first[:40]!r})",
            taken_as="decimal commas",
            hint="write points in numbers, or no blanks where commas separate",
        )
        return [line.replace(",", ".") for line in lines]
    return [line.replace(",", " ") for line in lines]
