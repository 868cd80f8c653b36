"""Clouds of points, with normals or without, as scanners give them: PLY, XYZ, NPY."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nid_dist.errors import UserError
from nid_dist.files import expanded, load_array

EXTENSIONS = (".ply", ".xyz", ".npy")
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class Cloud:
    """Points on (or near) a surface."""

    points: Float[np.ndarray, "P 3"]
    normals: Float[np.ndarray, "P 3"] | None = None  # out of the shape, of length 1; None: not known


def read_cloud(path: str | Path, with_normals: bool) -> Cloud:
    """Read a cloud, in the file's units, duplicates left out.

    Args:
        path: PLY (ASCII or binary, further properties are passed over), XYZ (text, a point a line) or NPY; three
            columns are places, six places and normals.
        with_normals: whether normals are asked for; without, they are not read.

    Raises:
        UserError: for a file that is none of these, no points, numbers that are not finite, or normals that are not
            there or have no length.
    """
    path = expanded(path)
    if path.suffix.lower() not in EXTENSIONS:
        raise _unfit(path, f"a file ending in {path.suffix or 'nothing'}", f"one of {', '.join(EXTENSIONS)}")
    reader = {".ply": _read_ply, ".xyz": _read_xyz, ".npy": _read_npy}[path.suffix.lower()]
    try:
        columns = reader(path)
    except UserError:
        raise
    except FileNotFoundError:
        raise _unfit(path, "no such file", "a cloud of points", "check the path") from None
    except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error, UnicodeDecodeError) as error:
        raise _unfit(path, f"a file that cannot be read ({error})", "a cloud of points") from error
    return checked_cloud(columns, with_normals, str(path))


def checked_cloud(columns: Float[np.ndarray, "P c"], with_normals: bool, where: str) -> Cloud:
    """A cloud of columns (places, then, where there are six, normals), checked and without duplicates.

    Raises:
        UserError: as `read_cloud` says.
    """
    if columns.ndim != 2 or columns.shape[1] not in (3, 6):
        raise _unfit(where, f"an array of the shape {tuple(columns.shape)}", "a row of 3 or 6 numbers for each point")
    if not len(columns):
        raise _unfit(where, "no point", "100 points or more")
    if with_normals and columns.shape[1] == 3:
        raise _unfit(where, "points without normals", "normals (nx, ny, nz)", "ask for none")
    columns = columns[:, : 6 if with_normals else 3].astype(np.float64)
    bad = int((~np.isfinite(columns)).any(1).sum())
    if bad:
        raise _unfit(where, f"{bad} of {len(columns)} points with numbers that are not finite", "finite coordinates")
    _, first = np.unique(columns[:, :3], axis=0, return_index=True)
    columns = columns[np.sort(first)]
    if np.ptp(columns[:, :3], 0).max() <= 0:
        raise _unfit(where, "points all in one place", "points of a surface")
    if not with_normals:
        return Cloud(columns)
    length = np.linalg.norm(columns[:, 3:], axis=1, keepdims=True)
    if (length < 1e-6).any():
        zero = int((length < 1e-6).sum())
        raise _unfit(where, f"{zero} of {len(columns)} normals without length", "unit normals", "ask for none")
    return Cloud(columns[:, :3], columns[:, 3:] / length)


def _read_npy(path: Path) -> np.ndarray:
    loaded = load_array(path)
    if not isinstance(loaded, np.ndarray) or loaded.dtype.kind not in "fiu":
        raise ValueError(f"an array of {loaded.dtype}" if isinstance(loaded, np.ndarray) else "an archive")
    return loaded


def _read_xyz(path: Path) -> np.ndarray:
    rows = [line.replace(",", " ").split() for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    if not rows:
        return np.zeros((0, 3))
    width = 6 if min(map(len, rows)) >= 6 else 3
    if min(map(len, rows)) < 3:
        raise ValueError("a line with fewer than three numbers")
    return np.array([[float(word) for word in row[:width]] for row in rows])


def _read_ply(path: Path) -> np.ndarray:
    """The vertices of a PLY file; other elements and further properties are passed over."""
    data = path.read_bytes()
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("no PLY header")
    body = data.index(b"\n", end) + 1
    lines = [line.split() for line in data[:end].decode("ascii", "replace").splitlines()]
    order = _ORDERS[next(line[1] for line in lines if line[:1] == ["format"])]
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in lines:
        if line[:1] == ["element"]:
            elements.append((line[1], int(line[2]), []))
        elif line[:1] == ["property"]:
            elements[-1][2].append(line[1:])
    place = next((place for place, element in enumerate(elements) if element[0] == "vertex"), None)
    if place is None:
        raise ValueError("no vertices")
    if place:
        raise ValueError(f"the element {elements[0][0]} before the vertices")
    _, count, properties = elements[place]
    if any(each[0] == "list" for each in properties):
        raise ValueError("a vertex property that is a list")
    names = [each[1] for each in properties]
    wanted = ["x", "y", "z", *(["nx", "ny", "nz"] if {"nx", "ny", "nz"} <= set(names) else [])]
    if order == "":
        rows = [line.split() for line in data[body:].decode("ascii").splitlines() if line.strip()][:count]
        if len(rows) < count:
            raise ValueError(f"{len(rows)} of {count} vertices")
        places = [names.index(name) for name in wanted]
        return np.array([[float(row[each]) for each in places] for row in rows]).reshape(count, len(wanted))
    kind = np.dtype([(each[1], order + _TYPES[each[0]]) for each in properties])
    if len(data) - body < count * kind.itemsize:
        raise ValueError(f"{(len(data) - body) // kind.itemsize} of {count} vertices")
    table = np.frombuffer(data, kind, count, body)
    return np.stack([table[name].astype(np.float64) for name in wanted], 1).reshape(count, len(wanted))


def _unfit(where: str | Path, found: str, expected: str, hint: str = "repair it, or choose another file") -> UserError:
    return UserError(str(where), found=found, expected=expected, hint=hint)
