"""Sinograms and geometries: what was measured, and where; read by `nid-reconstruct-ct`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nid_dist.benchmarks.bad_inputs.encoding import npy
from nid_dist.benchmarks.bad_inputs.reader import Files, Meaning, Reader, command
from nid_dist.measurements.geometry import Geometry
from nid_dist.tasks.ct.phantoms import shepp_logan

_SIDE = 32  # views, and bins: one is easily taken for the other
_ALIKE = 1e-3


def readers(dictionary: Path) -> Iterator[Reader]:
    """The sinogram, and the geometry."""
    run, good = partial(_reconstruct, dictionary), _scan()
    sinograms = [
        Meaning(what, {**good, "scan.npy": npy(bad)}, good if same else None, _ALIKE)
        for what, bad, same in _sinograms()
    ]
    geometries = [Meaning(what, {**good, **bad}, good if same else None, _ALIKE) for what, bad, same in _geometries()]
    yield Reader("sinogram", good, ["scan.npy"], run, _slice, share=0.5, meanings=sinograms)
    yield Reader("geometry", good, ["geometry.yaml"], run, _slice, share=0.5, meanings=geometries)


def _reconstruct(dictionary: Path, given: Path, out: Path) -> int:
    where = ["--dictionary", str(dictionary), "--out", str(out), "--device", "cpu", "--solver", "map"]
    return command("nid-reconstruct-ct")(
        [*where, "--sinogram", str(given / "scan.npy"), "--geometry", str(given / "geometry.yaml")]
    )


def _slice(out: Path) -> np.ndarray:
    found: np.ndarray = np.load(out / "map.npy")
    return found


def _measured(source: float | None = None, views: int = _SIDE) -> np.ndarray:
    """Exact line integrals of the head phantom."""
    return shepp_logan().sinogram(Geometry.even(views, _SIDE, source)).reshape(views, _SIDE)


def _scan(**changes: Any) -> Files:
    written = {"unit": "degrees", "views": _SIDE, "bins": _SIDE} | changes
    return {"scan.npy": npy(_measured()), "geometry.yaml": yaml.safe_dump(written).encode()}


def _sinograms() -> Iterator[tuple[str, np.ndarray, bool]]:
    """What is wrong, a sinogram, and whether it still says the same."""
    good = _measured()
    yield "single precision", good.astype(np.float32), True
    yield "big-endian", good.astype(">f8"), True
    yield "transposed", good.T.copy(), False
    for shift in (1, 2, 4):
        yield f"axis shifted by {shift}", np.roll(good, shift, 1), False
    yield "wrong sign", -good, False
    yield "transmissions", np.exp(-good), False
    yield "photons", np.round(1e4 * np.exp(-good)), False
    dead = good.copy()
    dead[:, _SIDE // 2 + 3] = 0
    yield "a dead bin", dead, False
    hot = good.copy()
    hot[:, _SIDE // 2 - 5] = good.max()
    yield "a hot bin", hot, False
    yield "saturated", np.minimum(good, 0.5 * good.max()), False
    lost = good.copy()
    lost[7] = 0
    yield "a view lost", lost, False
    yield "views in another order", np.random.default_rng(0).permutation(good), False
    swapped = np.concatenate([good[::2], good[1::2]])
    yield "odd views after even ones", swapped, False
    yield "a constant added", good + 0.1, False
    yield "half of the views mirrored", np.concatenate([good[: _SIDE // 2], good[_SIDE // 2 :, ::-1]]), False
    yield "not numbers", np.where(good > 0.5, np.nan, good), False
    yield "a picture of 8 bits", np.round(255 * good / good.max()).astype(np.uint8), False
    yield "the slice itself", shepp_logan().image(_SIDE).reshape(_SIDE, _SIDE), False
    noisy = np.random.default_rng(0).normal(size=good.shape)
    yield "noise alone", np.abs(noisy) * 0.2, False


def _geometries() -> Iterator[tuple[str, Files, bool]]:
    """What is wrong, files in place of the good ones, and whether they still say the same."""
    yield "radians", _scan(unit="radians", arc=float(np.pi)), True
    yield "all angles", _scan(views=None, angles=[180 * place / _SIDE for place in range(_SIDE)]), True
    millimetres = _scan(radius=90.0, width=180.0, scale=0.02)
    yield "millimetres", {**millimetres, "scan.npy": npy(_measured() * 90 * 0.02)}, True
    yield "degrees called radians", _scan(unit="radians", arc=180.0), False
    yield "radians called degrees", _scan(arc=float(np.pi)), False
    yield "a whole turn", _scan(arc=360.0), False
    yield "a quarter of a turn", _scan(arc=90.0), False
    yield "a fan called parallel", {**_scan(), "scan.npy": npy(_measured(source=2.5))}, False
    yield "parallel called a fan", _scan(beam="fan", source=2.5), False
    yield "another source", {**_scan(beam="fan", source=6.0), "scan.npy": npy(_measured(source=1.8))}, False
    yield (
        "angles backwards in part",
        _scan(
            views=None,
            angles=[*(180 * place / _SIDE for place in range(16)), *(-180 * place / _SIDE for place in range(16, 32))],
        ),
        False,
    )
    yield "equal angles", _scan(views=None, angles=[0.0] * _SIDE), False
    yield "a detector twice as wide", _scan(width=4.0), False
    yield "scale in other units", _scan(scale=100.0), False
    yield "a typing error", _scan(view=_SIDE), False
    yield "text for a number", _scan(bins="many"), False
