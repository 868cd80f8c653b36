"""Clouds of points, with normals or without, as scanners give them: PLY, text, NPY, NPZ."""

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nid_dist.errors import UserError, doubt
from nid_dist.files import expanded, load_array
from nid_dist.tasks.shapes.cloud_columns import pick_columns
from nid_dist.tasks.shapes.formats.ply import read_elements
from nid_dist.tasks.shapes.formats.text_columns import read_columns

_TEXT = (".xyz", ".txt", ".csv", ".pts", ".asc")
EXTENSIONS = (".ply", ".npy", ".npz", *_TEXT)
_FEWEST, _FEW = 8, 50  # points: fewer are no surface; fewer say little of one
_MOST = 2**30  # bytes of an archive, unpacked
_FLAT, _THIN = 1e-3, 0.02  # of its longest extent: a cloud that is no surface of a body, and one that hardly is

Table = tuple[np.ndarray, list[str]]
"""A row for each point, and the columns' names, if any are known."""


@dataclass(frozen=True)
class Cloud:
    """Points on (or near) a surface."""

    points: Float[np.ndarray, "P 3"]
    normals: Float[np.ndarray, "P 3"] | None = None  # out of the shape, of length 1; None: not known
    name: str | None = None  # of the file that it was read from, and checked


def read_cloud(path: str | Path, with_normals: bool) -> Cloud:
    """Read a cloud, in the file's units, duplicates left out.

    Args:
        path: PLY (further properties are passed over); text, a point a line, with a header or without (XYZ, TXT, CSV,
            PTS, ASC); NPY; or NPZ with `points` (and `normals`). Without names three columns are places, and those
            behind them normals where they have their lengths.
        with_normals: whether normals are asked for; without, they are not read.

    Raises:
        UserError: for a file that is none of these, columns that are not what they should be, and as `checked_cloud`.

    Warns:
        DoubtfulMeaning: of columns, and of clouds, that hardly are what they are taken for.
    """
    path = expanded(path)
    ending = path.suffix.lower()
    if ending not in EXTENSIONS:
        raise _unfit(path, f"a file ending in {ending or 'nothing'}", f"one of {', '.join(EXTENSIONS)}")
    if not path.is_file():
        raise _unfit(path, "no such file", "a cloud of points", "check the path")
    reader = read_columns if ending in _TEXT else {".ply": _read_ply, ".npy": _read_npy, ".npz": _read_npz}[ending]
    try:
        table, names = reader(path)
    except UserError:
        raise
    except Exception as error:  # damaged bytes make numpy's readers raise anything, tokenize.TokenError among them
        reason = f"{error}" or type(error).__name__
        raise _unfit(path, f"a file that cannot be read ({reason[:200]})", "a cloud of points") from error
    points, normals = pick_columns(table, names, with_normals, str(path))
    return replace(checked_cloud(points, normals, str(path)), name=str(path))


def checked_cloud(points: Float[np.ndarray, "P 3"], normals: Float[np.ndarray, "P 3"] | None, where: str) -> Cloud:
    """A cloud without duplicates.

    Raises:
        UserError: for points or normals that are not numbers, too few points, points on a line or in a plane, and
            normals without length.

    Warns:
        DoubtfulMeaning: of few points, and of points almost on a line or in a plane.
    """
    if not len(points):
        raise _unfit(where, "no point", "100 points or more")
    columns = np.concatenate([points] if normals is None else [points, normals], 1).astype(np.float64)
    bad = int((~np.isfinite(columns)).any(1).sum())
    if bad:
        raise _unfit(where, f"{bad} of {len(columns)} points with numbers that are not finite", "finite coordinates")
    _, first = np.unique(columns[:, :3], axis=0, return_index=True)
    given, columns = len(columns), columns[np.sort(first)]
    _check_extent(columns[:, :3], given, where)
    if normals is None:
        return Cloud(columns)
    length = np.linalg.norm(columns[:, 3:], axis=1, keepdims=True)
    if (length < 1e-6).any():
        zero = int((length < 1e-6).sum())
        raise _unfit(where, f"{zero} of {len(columns)} normals without length", "unit normals", "ask for none")
    return Cloud(columns[:, :3], columns[:, 3:] / length)


def _check_extent(points: Float[np.ndarray, "P 3"], given: int, where: str) -> None:
    """Refuse what is the surface of no body."""
    extent = np.ptp(points, 0).max()
    if not 0 < extent < 1e100:  # whose square is a number
        found = "points out of range" if extent > 0 else "points all in one place"
        raise _unfit(where, found, "points of a surface")
    if len(points) < _FEWEST:
        of = f" ({given} with duplicates)" if given > len(points) else ""
        raise _unfit(where, f"{len(points)} points{of}", "100 points of a surface, or more", "choose another file")
    # The middle of the longest 98 %, so that few points apart do not hide that all others lie in a plane.
    middle = points - np.median(points, 0)
    near = np.linalg.norm(middle, axis=1)
    kept = middle[near <= np.quantile(near, 0.98)]
    spread = np.linalg.svd((kept - kept.mean(0)) / max(near.max(), 1e-300), compute_uv=False)
    for place, shape in ((1, "on a line"), (2, "in a plane")):
        if spread[place] <= _FLAT * spread[0]:
            raise _unfit(where, f"points all {shape}", "points of a body's surface", "choose another file")
        if spread[place] <= _THIN * spread[0]:
            doubt(
                where,
                found=f"points almost all {shape}",
                taken_as="a very thin body",
                hint="doubt its surface, or measure all of it",
            )
            return
    if len(points) < _FEW:
        doubt(
            where,
            found=f"{len(points)} points",
            taken_as="a whole surface, of which they say little",
            hint="measure 100 or more",
        )


def _read_npy(path: Path) -> Table:
    return _numbers(load_array(path)), []


def _read_npz(path: Path) -> Table:
    with zipfile.ZipFile(path) as packed:
        unpacked = sum(member.file_size for member in packed.infolist())
    if unpacked > _MOST:
        raise ValueError(f"an archive of {unpacked} bytes when it is unpacked, where {_MOST} are read")
    with np.load(path, allow_pickle=False) as archive:
        keys = list(archive)
        if len(keys) == 1:
            return _numbers(archive[keys[0]]), []
        lower = {key.lower(): key for key in keys}
        places = next((lower[name] for name in ("points", "xyz", "vertices", "pos") if name in lower), None)
        normals = next((lower[name] for name in ("normals", "normal") if name in lower), None)
        if places is None:
            raise ValueError(f"arrays called {', '.join(keys)[:80]}, none of which is points")
        parts = [_numbers(archive[key]) for key in (places, normals) if key is not None]
    if any(part.ndim != 2 or part.shape != (len(parts[0]), 3) for part in parts):
        raise ValueError(f"arrays of the shapes {', '.join(str(part.shape) for part in parts)} instead of (points, 3)")
    return np.concatenate(parts, 1), [*"xyz", "nx", "ny", "nz"][: 3 * len(parts)]


def _numbers(loaded: np.ndarray) -> np.ndarray:
    if loaded.dtype.kind not in "fiu":
        raise ValueError(f"an array of {loaded.dtype}")
    return loaded.astype(np.float64)


def _read_ply(path: Path) -> Table:
    vertex = read_elements(path, lambda name: name == "vertex").get("vertex")
    if vertex is None:
        raise ValueError("no vertices")
    known = {name.lower(): column for name, column in vertex.items() if isinstance(column, np.ndarray)}
    rows = next((len(column) for column in known.values()), 0)
    return np.stack([np.asarray(each, np.float64) for each in known.values()], 1).reshape(rows, len(known)), list(known)


def _unfit(where: str | Path, found: str, expected: str, hint: str = "repair it, or choose another file") -> UserError:
    return UserError(str(where), found=found, expected=expected, hint=hint)
