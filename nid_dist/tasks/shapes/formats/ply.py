"""PLY, text or binary of either order: all elements that are asked for, faces of any size and triangle strips."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from nid_dist.tasks.shapes.formats.polygons import strips, triangulate

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8", "int64": "i8", "uint64": "u8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_INDICES = ("vertex_indices", "vertex_index")  # what the list of a face's corners is called
_END = re.compile(rb"end_header[ \t]*(\r\n|\n|\r)")
_HEADER = 1 << 20  # bytes, at most

Lists = tuple[Int[np.ndarray, "_"], np.ndarray]
"""How many numbers each row's list has, and all of these, one after the other."""


@dataclass(frozen=True)
class Element:
    """What a header says of one kind of rows."""

    name: str
    rows: int
    numbers: dict[str, str] = field(default_factory=dict)  # of properties in order, NumPy's types; "" for a list's
    lists: dict[str, tuple[str, str]] = field(default_factory=dict)  # the types of its count and of its numbers


def read_ply(path: Path) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Places and triangles, of faces and of triangle strips.

    Raises:
        ValueError: as `read_elements`, for places without x, y and z, and for corners that are not there.
    """
    found = read_elements(path)
    vertices = columns(found, ["x", "y", "z"])
    counts, corners = _corners(found, "face")
    return vertices, np.concatenate(
        [triangulate(vertices, corners, counts), _checked(strips(_corners(found, "tristrips")[1]), len(vertices))]
    )


def columns(elements: Mapping[str, Mapping[str, np.ndarray | Lists]], names: list[str]) -> Float[np.ndarray, "V c"]:
    """Some properties of the vertices, side by side.

    Raises:
        ValueError: for one that is not there.
    """
    vertex = elements.get("vertex")
    if vertex is None:
        raise ValueError("no vertices")
    parts = [vertex.get(name) for name in names]
    for name, part in zip(names, parts, strict=True):
        if not isinstance(part, np.ndarray):
            raise ValueError(f"vertices without {name}")
    return np.stack([np.asarray(part, np.float64) for part in parts], 1)


def read_elements(
    path: Path, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, dict[str, np.ndarray | Lists]]:
    """The properties of each element, by name; elements are read up to the last one that is wanted.

    Raises:
        ValueError: for a header that is none, too few rows, numbers that are none, and, where all elements are read,
            what comes behind them.
    """
    data = path.read_bytes()
    order, elements, body = _header(data)
    last = max((place for place, element in enumerate(elements) if wanted(element.name)), default=-1)
    rows = _Text(data[body:], data[:body].count(b"\n")) if not order else _Binary(data, body, order)
    found = {element.name: rows.take(element) for element in elements[: last + 1]}
    if last + 1 == len(elements) and (left := rows.left()):
        raise ValueError(f"{left} behind the last element that the header says")
    return found


def _header(data: bytes) -> tuple[str, list[Element], int]:
    """The order of bytes ("": text), the elements, and where they begin."""
    end = _END.search(data, 0, _HEADER)
    if not data.startswith(b"ply") or not end:
        raise ValueError("no PLY header")
    order: str | None = None
    elements: list[Element] = []
    for line in data[: end.start()].decode("ascii", "replace").replace("\r", "\n").split("\n"):
        words = line.split()
        try:
            if words[:1] == ["format"]:
                order = _ORDERS[words[1]]
            elif words[:1] == ["element"]:
                elements.append(Element(words[1], int(words[2])))
                if elements[-1].rows < 0 or words[1] in [each.name for each in elements[:-1]]:
                    raise ValueError("rows")
            elif words[:2] == ["property", "list"]:
                elements[-1].lists[words[4]] = (_TYPES[words[2]], _TYPES[words[3]])
                elements[-1].numbers[words[4]] = ""
            elif words[:1] == ["property"]:
                elements[-1].numbers[words[2]] = _TYPES[words[1]]
        except (ValueError, KeyError, IndexError):
            raise ValueError(f"the line {line.strip()[:60]!r} in its header") from None
    if order is None:
        raise ValueError("a header without format")
    return order, elements, end.end()


class _Text:
    """The rows of a file of text."""

    def __init__(self, body: bytes, header: int) -> None:
        lines = body.decode("ascii", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rows = [(number, line) for number, line in enumerate(lines, header + 1) if line.strip()]
        self._place = 0

    def left(self) -> str:
        """What has not been taken, in words."""
        count = len(self._rows) - self._place
        return f"{count} lines" if count else ""

    def take(self, element: Element) -> dict[str, np.ndarray | Lists]:
        rows = self._rows[self._place : self._place + element.rows]
        if len(rows) < element.rows:
            raise ValueError(f"{len(rows)} of {element.rows} rows of {element.name}")
        self._place += element.rows
        width = len(element.numbers)
        if not element.lists:
            words = [line.split() for _, line in rows]
            table = np.zeros((len(rows), width))
            for place, each in enumerate(words):
                if len(each) != width:
                    raise ValueError(f"line {rows[place][0]}: {len(each)} numbers instead of {width}")
                table[place] = _numbers(each, *rows[place])
            return dict(zip(element.numbers, table.T, strict=True))
        values: dict[str, list[float]] = {name: [] for name in element.numbers}
        counts: dict[str, list[int]] = {name: [] for name in element.lists}
        for number, line in rows:
            row, place = _numbers(line.split(), number, line), 0
            for name in element.numbers:
                length = 1
                if name in counts:
                    length = int(row[place]) if place < len(row) else 0
                    counts[name].append(length)
                    place += 1
                if length < 0 or place + length > len(row):
                    raise ValueError(f"line {number}: {line.strip()[:60]!r}: too few numbers")
                values[name] += row[place : place + length]
                place += length
            if place != len(row):
                raise ValueError(f"line {number}: {line.strip()[:60]!r}: too many numbers")
        return {
            name: (np.array(counts[name], np.int64), np.array(each)) if name in counts else np.array(each)
            for name, each in values.items()
        }


def _numbers(words: list[str], number: int, line: str) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        raise ValueError(f"line {number}: {line.strip()[:60]!r}: no numbers") from None


class _Binary:
    """The rows of a binary file."""

    def __init__(self, data: bytes, body: int, order: str) -> None:
        self._data, self._place, self._order = data, body, order

    def left(self) -> str:
        """What has not been taken, in words."""
        rest = self._data[self._place :]
        return f"{len(rest)} bytes" if rest.strip() else ""

    def take(self, element: Element) -> dict[str, np.ndarray | Lists]:
        if not element.lists:
            return {name: np.array(column) for name, column in self._table(element, {}).items()}
        lengths = self._lengths(element)
        found = self._same(element, lengths)
        return self._different(element) if found is None else found

    def _table(self, element: Element, lengths: Mapping[str, int]) -> Mapping[str, np.ndarray]:
        """The rows, whose lists have these lengths."""
        fields: list[tuple[str, str] | tuple[str, str, int]] = []
        for name, kind in element.numbers.items():
            if name in element.lists:
                count, each = element.lists[name]
                fields += [(f"{name} #", self._order + count), (name, self._order + each, lengths[name])]
            else:
                fields.append((name, self._order + kind))
        row = np.dtype(fields)
        room = len(self._data) - self._place
        if room < element.rows * row.itemsize:
            raise ValueError(f"{room // max(row.itemsize, 1)} of {element.rows} rows of {element.name}")
        table = np.frombuffer(self._data, row, element.rows, self._place)
        self._place += element.rows * row.itemsize
        return {name: table[name] for name in row.names or ()}

    def _lengths(self, element: Element) -> dict[str, int]:
        """Of the first row's lists."""
        place, lengths = self._place, {}
        for name, kind in element.numbers.items():
            if name in element.lists:
                count, each = element.lists[name]
                lengths[name] = self._count(place, count) if element.rows else 0
                place += np.dtype(count).itemsize + lengths[name] * np.dtype(each).itemsize
            else:
                place += np.dtype(kind).itemsize
        return lengths

    def _count(self, place: int, kind: str) -> int:
        size = np.dtype(kind).itemsize
        if place + size > len(self._data):
            raise ValueError("an end within a row")
        count = int(np.frombuffer(self._data, self._order + kind, 1, place)[0])
        if not 0 <= count <= len(self._data) - place:
            raise ValueError(f"a list of {count} numbers")
        return count

    def _same(self, element: Element, lengths: Mapping[str, int]) -> dict[str, np.ndarray | Lists] | None:
        """All rows at once, where the lists of all have the same lengths; otherwise None."""
        begin = self._place
        try:
            table = self._table(element, lengths)
        except ValueError:
            return None
        if any((table[f"{name} #"] != length).any() for name, length in lengths.items()):
            self._place = begin
            return None
        return {
            name: (table[f"{name} #"].astype(np.int64), table[name].reshape(-1)) if name in lengths else table[name]
            for name in element.numbers
        }

    def _different(self, element: Element) -> dict[str, np.ndarray | Lists]:
        """Row by row."""
        parts: dict[str, list[np.ndarray]] = {name: [] for name in element.numbers}
        counts: dict[str, list[int]] = {name: [] for name in element.lists}
        types = {
            name: np.dtype(self._order + (kind or element.lists[name][1])) for name, kind in element.numbers.items()
        }
        for row in range(element.rows):
            for name in element.numbers:
                length = 1
                if name in counts:
                    kind = element.lists[name][0]
                    try:
                        length = self._count(self._place, kind)
                    except ValueError as error:
                        raise ValueError(f"row {row} of {element.rows} of {element.name}: {error}") from None
                    counts[name].append(length)
                    self._place += np.dtype(kind).itemsize
                end = self._place + length * types[name].itemsize
                if end > len(self._data):
                    raise ValueError(f"{row} of {element.rows} rows of {element.name}")
                parts[name].append(np.frombuffer(self._data, types[name], length, self._place))
                self._place = end
        values = {name: np.concatenate(each) if each else np.zeros(0) for name, each in parts.items()}
        return {
            name: (np.array(counts[name], np.int64), each) if name in counts else each for name, each in values.items()
        }


def _corners(elements: Mapping[str, Mapping[str, np.ndarray | Lists]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """How many corners each row of an element has, and all of these."""
    lists = {each: value for each, value in elements.get(name, {}).items() if isinstance(value, tuple)}
    chosen = next((lists[each] for each in _INDICES if each in lists), None)
    if chosen is None and lists:
        if len(lists) > 1:
            raise ValueError(f"{name} with the lists {', '.join(lists)}, none of which is {_INDICES[0]}")
        chosen = next(iter(lists.values()))
    if chosen is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    counts, corners = chosen
    if not np.array_equal(corners, np.round(corners)):
        raise ValueError(f"corners of {name} that are no whole numbers")
    return counts, corners.astype(np.int64)


def _checked(faces: Int[np.ndarray, "F 3"], count: int) -> Int[np.ndarray, "F 3"]:
    if len(faces) and faces.max() >= count:
        raise ValueError(f"a strip with corner {faces.max()} of {count}")
    return faces
