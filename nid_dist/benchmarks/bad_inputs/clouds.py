"""Clouds of points: what their columns are, and where their normals point."""

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from nid_dist.benchmarks.bad_inputs.encoding import npy
from nid_dist.benchmarks.bad_inputs.reader import Files, Meaning, Reader, command, through, what_was_read
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.shapes.point_clouds import read_cloud

_POINTS = 300
_ALIKE = 1e-4


def cloud() -> np.ndarray:
    """Points of an ellipsoid and their normals, evenly: [P, 6]."""
    place = np.arange(_POINTS) + 0.5
    height, turn = 1 - 2 * place / _POINTS, np.pi * (1 + 5**0.5) * place
    ring = np.sqrt(1 - height**2)
    ball = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], 1)
    axes = np.array([1.0, 0.7, 1.3])
    normals = ball / axes
    return np.concatenate([ball * axes, normals / np.linalg.norm(normals, axis=1, keepdims=True)], 1)


def readers() -> Iterator[Reader]:
    """Of each format, through the reader of `nid-reconstruct --normals`."""
    rows = cloud()
    for kind, good in {"xyz": text(rows), "cloud ply": ply(rows), "cloud npy": npy(rows)}.items():
        file = f"cloud.{kind.split()[-1]}"
        meanings = [Meaning(what, files, truth, _ALIKE) for what, files, truth in _columns(kind)]
        yield Reader(
            kind,
            {file: good},
            [file],
            through(_read, "cloud." + kind.split()[-1]),
            what_was_read,
            share=1.6,
            meanings=meanings,
        )


def surfaces(dictionary: Path) -> Reader:
    """Clouds whose normals or whose points are not what they should be, read by `nid-reconstruct --normals`."""
    good = {"cloud.xyz": text(cloud())}
    meanings = [Meaning(what, {"cloud.xyz": text(rows)}, None) for what, rows in _doubtful()]
    return Reader(
        "cloud", good, ["cloud.xyz"], partial(_reconstruct, dictionary), _surface, share=0.05, meanings=meanings
    )


def _read(path: Path) -> np.ndarray:
    found = read_cloud(path, True)
    assert found.normals is not None
    return np.concatenate([found.points, found.normals], 1)


def _reconstruct(dictionary: Path, given: Path, out: Path) -> int:
    where = ["--dictionary", str(dictionary), "--points", str(given / "cloud.xyz"), "--out", str(out)]
    return command("nid-reconstruct")([*where, "--normals", "--resolution", "16", "--device", "cpu"])


def _surface(out: Path) -> np.ndarray:
    mesh = read_mesh(out / "mesh.ply")
    return np.concatenate([mesh.vertices.min(0), mesh.vertices.max(0), [mesh.areas.sum()]])


def text(rows: np.ndarray, between: str = " ", head: str = "") -> bytes:
    """A point a line."""
    buffer = io.StringIO()
    np.savetxt(buffer, rows, fmt="%.7g", delimiter=between)
    return (head + buffer.getvalue()).encode()


def ply(rows: np.ndarray, names: tuple[str, ...] = ("x", "y", "z", "nx", "ny", "nz")) -> bytes:
    """Points in bytes, with properties of these names."""
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    head += [f"property float {name}" for name in names]
    return ("\n".join([*head, "end_header"]) + "\n").encode() + rows.astype("<f4").tobytes()


def _columns(kind: str) -> Iterator[tuple[str, Files, Files | None]]:
    rows = cloud()
    points, normals = rows[:, :3], rows[:, 3:]
    colours = np.round(255 * (0.5 + 0.5 * normals[:, ::-1]))
    if kind == "xyz":
        good: Files = {"cloud.xyz": text(rows)}
        yield "colours for normals", {"cloud.xyz": text(np.hstack([points, colours]))}, None
        yield "colours in [0, 1] for normals", {"cloud.xyz": text(np.hstack([points, colours / 255]))}, None
        yield "colours, then normals", {"cloud.xyz": text(np.hstack([points, colours, normals]))}, good
        yield "normals, then colours", {"cloud.xyz": text(np.hstack([rows, colours]))}, good
        yield "a header", {"cloud.xyz": text(rows, head="x y z nx ny nz\n")}, good
        yield (
            "a header with colours first",
            {"cloud.xyz": text(np.hstack([points, colours, normals]), head="x y z r g b nx ny nz\n")},
            good,
        )
        yield "semicolons", {"cloud.xyz": text(rows, ";")}, good
        yield "commas", {"cloud.xyz": text(rows, ",")}, good
        yield "tabs", {"cloud.xyz": text(rows, "\t")}, good
        yield "decimal commas", {"cloud.xyz": text(rows).replace(b".", b",")}, None
        yield "the number of points first", {"cloud.xyz": text(rows, head=f"{_POINTS}\n")}, good
        yield "an index first", {"cloud.xyz": text(np.hstack([np.arange(_POINTS)[:, None], rows]))}, None
        yield "an intensity", {"cloud.xyz": text(np.hstack([points, colours[:, :1]]))}, None
        yield "a molecule", {"cloud.xyz": b"3\nwater\nO 0 0 0\nH 0.76 0.59 0\nH -0.76 0.59 0\n"}, None
    elif kind == "cloud ply":
        good = {"cloud.ply": ply(rows)}
        yield (
            "colours for normals",
            {"cloud.ply": ply(np.hstack([points, colours]), ("x", "y", "z", "red", "green", "blue"))},
            None,
        )
        yield "normals first", {"cloud.ply": ply(np.hstack([normals, points]), ("nx", "ny", "nz", "x", "y", "z"))}, good
        yield "normal_x", {"cloud.ply": ply(rows, ("x", "y", "z", "normal_x", "normal_y", "normal_z"))}, good
    else:
        good = {"cloud.npy": npy(rows)}
        yield "colours for normals", {"cloud.npy": npy(np.hstack([points, colours]))}, None
        yield "columns as rows", {"cloud.npy": npy(rows.T)}, None
        yield "big-endian", {"cloud.npy": npy(rows.astype(">f8"))}, good
        yield "nine columns", {"cloud.npy": npy(np.hstack([points, colours, normals]))}, good
        yield "six points as columns", {"cloud.npy": npy(rows[:6].T.copy())}, None


def _doubtful() -> Iterator[tuple[str, np.ndarray]]:
    rows = cloud()
    flip = np.ones((_POINTS, 6))
    flip[:, 3:] = -1
    yield "inward normals", rows * flip
    half = flip.copy()
    half[::2] = 1
    yield "half of the normals flipped", rows * half
    some = flip.copy()
    some[rows[:, 2] > -0.5] = 1
    yield "a quarter of the normals flipped", rows * some
    yield "three points", rows[[0, 100, 200]]
    line = rows.copy()
    line[:, :2] = 0
    yield "a line", line
    plane = rows.copy()
    plane[:, 2] = 0
    yield "a plane", plane
    generator = np.random.default_rng(0)
    noise = rows.copy()
    noise[:, 3:] = generator.normal(size=(_POINTS, 3))
    yield "normals of nothing", noise
    far = rows.copy()
    far[0, :3] = 1e4
    yield "one point far away", far
