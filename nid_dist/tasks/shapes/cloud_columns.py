"""Which columns of a cloud are places and which are normals: by their names, and without names by their values."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from nid_dist.errors import UserError, doubt

_PLACES = ("x", "y", "z")
_NORMALS = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"), ("normalx", "normaly", "normalz"))
_UNIT, _MOST = 0.05, 0.9  # from 1, of the lengths of unit normals; share of them that must be so
_COUNTED = 20  # points, from which on a column that counts them is no accident
_WIDEST = 64  # columns


def pick_columns(
    table: Float[np.ndarray, "P c"], names: Sequence[str], with_normals: bool, where: str
) -> tuple[Float[np.ndarray, "P 3"], Float[np.ndarray, "P 3"] | None]:
    """Places and, if they are asked for, normals.

    Args:
        table: a row for each point.
        names: of the columns; none: the first three are places, normals follow them, and are known by their lengths.
        with_normals: whether normals are asked for.
        where: what errors call the cloud.

    Raises:
        UserError: no such columns, or ones that hardly are what is asked for.

    Warns:
        DoubtfulMeaning: normals that may be something else.
    """
    if names:
        return _by_name(table, names, with_normals, where)
    if table.ndim != 2 or not 3 <= table.shape[1] <= _WIDEST:
        turned = table.ndim == 2 and table.shape[0] in (3, 6) and table.shape[1] > _WIDEST
        raise _unfit(
            where,
            f"an array of the shape {tuple(table.shape)}",
            "a row of 3 or 6 numbers for each point",
            "transpose it" if turned else "repair it, or choose another file",
        )
    count = len(table)
    if count >= _COUNTED and table.shape[1] > 3 and np.array_equal(np.diff(table[:, 0]), np.ones(count - 1)):
        raise _unfit(
            where,
            f"a first column that counts the points ({table[0, 0]:g}, {table[1, 0]:g}, ...)",
            "x, y, z first",
            "take it out, or name the columns in a first line (i x y z)",
        )
    places = table[:, :3]
    return places, _by_value(table, where) if with_normals and count else None


def _by_name(
    table: np.ndarray, names: Sequence[str], with_normals: bool, where: str
) -> tuple[np.ndarray, np.ndarray | None]:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if not set(_PLACES) <= set(names) or set(twice) & {*_PLACES, *_NORMALS[0]}:
        raise _unfit(
            where,
            f"columns called {', '.join(names)[:80]}" + (f" ({twice[0]} twice)" if twice else ""),
            "x, y and z",
            "name them so",
        )
    places = table[:, [list(names).index(name) for name in _PLACES]]
    if not with_normals:
        return places, None
    known = next((group for group in _NORMALS if set(group) <= set(names)), None)
    if known is None:
        raise _unfit(
            where, f"points without normals (columns {', '.join(names)[:80]})", "nx, ny and nz", "ask for none"
        )
    return places, table[:, [list(names).index(name) for name in known]]


def _by_value(table: np.ndarray, where: str) -> np.ndarray:
    """Of columns without names, the three that are normals."""
    width = table.shape[1]
    if width < 6:
        raise _unfit(
            where,
            "points without normals" + ("" if width == 3 else f" ({width} columns)"),
            "normals (nx, ny, nz)",
            "ask for none",
        )
    groups = {start: table[:, start : start + 3] for start in range(3, width - 2)}
    unit = [start for start, group in groups.items() if _is_unit(group)]
    if width > 6:
        if len(unit) != 1:
            raise _unfit(
                where,
                f"{width} columns, of which {'several' if unit else 'no'} three in a row have the length of normals, 1",
                "x y z and nx ny nz",
                "name the columns in a first line (x y z nx ny nz ...)",
            )
        return groups[unit[0]]
    normals = groups[3]
    if _is_colour(normals) and not unit:
        raise _unfit(
            where,
            f"columns 4 to 6 from {normals.min():g} to {normals.max():g}, which look like colours",
            "normals: lengths of 1, either sign",
            "ask for none, or put normals there",
        )
    lengths = np.linalg.norm(normals, axis=1)
    if (normals >= 0).all() and normals.any():
        doubt(
            where,
            found="columns 4 to 6 without a negative number",
            taken_as="normals that all look one way",
            hint="ask for no normals if they are colours",
        )
    elif not unit and np.ptp(lengths) > _UNIT * lengths.max():
        doubt(
            where,
            found=f"columns 4 to 6 of lengths from {lengths.min():.3g} to {lengths.max():.3g}",
            taken_as="normals, by their directions",
            hint="ask for no normals if they are something else",
        )
    return normals


def _is_unit(group: Float[np.ndarray, "P 3"]) -> bool:
    lengths = np.linalg.norm(group, axis=1)
    return bool((np.abs(lengths - 1) < _UNIT).mean() >= _MOST)


def _is_colour(group: Float[np.ndarray, "P 3"]) -> bool:
    """Whole numbers of either kind of bytes, or shares up to 1; none negative, and not all zero."""
    whole = bool((group == np.round(group)).all())
    return bool((group >= 0).all() and group.any() and (whole or group.max() <= 1))


def _unfit(where: str, found: str, expected: str, hint: str) -> UserError:
    return UserError(where, found=found, expected=expected, hint=hint)
