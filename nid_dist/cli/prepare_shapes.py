"""`nid-prepare shapes` and `nid-prepare furniture`: meshes to signed distances, and meshes to begin with."""

import argparse
import fcntl
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from nid_dist.cli.entry import make_out_folder
from nid_dist.cli.options import check_ranges
from nid_dist.errors import UserError
from nid_dist.files import expanded, keep_apart, remove_unfinished
from nid_dist.parallel.pool import open_pool
from nid_dist.progress import track
from nid_dist.tasks.shapes.furniture import write_furniture
from nid_dist.tasks.shapes.mesh import SIDE
from nid_dist.tasks.shapes.preparation import PreparationResult, Settings, prepare_shape
from nid_dist.tasks.shapes.prepared import INDEX, read_index, shape_file, write_index
from nid_dist.tasks.shapes.shapenet import CATEGORIES, LAYOUTS, MeshFile, find_meshes
from nid_dist.tasks.shapes.signals import FAMILIES

_LOCK = ".lock"
_INNER = 0.01  # of a surface with the shape on both sides
_FLUSH = 10.0  # seconds between versions of the index


def add_shapes(parser: argparse.ArgumentParser) -> None:
    """Add the options of `nid-prepare shapes`."""
    parser.add_argument("--input", type=expanded, required=True, help="folder with meshes")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="flat", help="how they lie in it (default flat)")
    parser.add_argument(
        "--synset", nargs="+", default=[], metavar="ID|NAME", help=f"only these: synsets or {', '.join(CATEGORIES)}"
    )
    parser.add_argument("--splits", type=expanded, help="R2N2 split file (JSON); meshes that it does not name stay out")
    parser.add_argument("--out", type=expanded, required=True, help="folder of the samples; goes on where it stopped")
    default = Settings()
    parser.add_argument("--samples", type=int, default=default.samples, help="signed samples per shape (100000)")
    parser.add_argument("--near", type=float, default=default.near, help="share of them near the surface (0.8)")
    parser.add_argument("--surface", type=int, default=default.surface, help="points on the surface, at most (10000)")
    parser.add_argument("--grid", type=int, default=32, help="side of a grid of distances; 0: none (default 32)")
    parser.add_argument(
        "--ambiguous", type=float, default=default.ambiguous, help="share of a surface that may bound nothing (0.6)"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="of all points (0)")
    parser.add_argument("--cores", type=int, help="processes without mpirun; default all cores")
    parser.add_argument("--strict", action="store_true", help="stop at the first mesh that cannot be trusted")


def add_furniture(parser: argparse.ArgumentParser) -> None:
    """Add the options of `nid-prepare furniture`."""
    parser.add_argument("--out", type=expanded, required=True, help="a new folder, which becomes a small ShapeNet")
    parser.add_argument("--count", type=int, default=48, help="meshes in all (default 48)")
    parser.add_argument("--families", nargs="+", choices=sorted(FAMILIES), default=list(FAMILIES), help="in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layout", choices=["shapenet-v1", "shapenet-v2"], default="shapenet-v2")


def prepare_shapes(options: argparse.Namespace) -> int:
    """Prepare a folder of meshes, by the options of `add_shapes`.

    Raises:
        UserError: when nothing can be prepared or written, or, where `--strict` asks for it, at a mesh left out.
    """
    settings = _settings(options)
    keep_apart(options.out, [options.input])
    with open_pool(options.cores) as pool:
        if pool is None:
            return 0
        files = find_meshes(options.input, options.layout, options.synset, options.splits)
        with _alone(options.out, settings), pool.ended_by_errors():
            work = partial(prepare_shape, folder=options.out, settings=settings)
            begin = time.perf_counter()
            outcomes = _collect(pool.map(work, files), files, options.out, settings, options.strict)
            seconds = time.perf_counter() - begin
    done = [each for each in outcomes if each.facts is not None]
    made = [each for each in done if not each.kept]
    for each in outcomes:
        if each.facts is None:
            print(f"nid-prepare: left out: {each.reason}", file=sys.stderr)
    rate = f", {60 * len(made) / seconds:.0f} a minute" if made else ""
    print(
        f"prepared {len(made)} shapes{rate}; {len(done) - len(made)} were there, {len(outcomes) - len(done)} left out"
    )
    _say_what_they_are(done)
    if not done:
        raise UserError(
            f"--input {options.input}",
            found=f"{len(files)} meshes, none of which can be trusted",
            expected="at least one",
            hint=f"read the reasons in {options.out / INDEX}",
        )
    print(f"wrote {options.out}: {INDEX}, and a file of samples for each shape")
    print(f"next: nid-train --config configs/sdf_shapenet.yaml --set signals.path={options.out}")
    return 0


def _say_what_they_are(done: Sequence[PreparationResult]) -> None:
    """What of meshes is not as it should be, or not as somebody might think: a line for each, counted."""
    facts = [each.facts for each in done if each.facts is not None]
    counts = {
        "not closed (inside is where winding numbers say so)": sum(not each.get("closed", True) for each in facts),
        "with parts through or within each other": sum(each.get("inner", 0) > _INNER for each in facts),
        "inside out, and turned": sum(each.get("turned", False) for each in facts),
    }
    said = [f"{count} {words}" for words, count in counts.items() if count]
    if said:
        print(f"of these, {', '.join(said)}")
    if facts:
        low, high = (2 * SIDE * pick(each["scale"] for each in facts) for pick in (min, max))
        print(f"longest sides {low:.3g} to {high:.3g}: all are scaled to the cube, axes are as the files have them")
    doubts: dict[str, list[str]] = {}
    for result in done:
        for each in result.doubts:
            doubts.setdefault(each, []).append(result.name)
    for words, names in doubts.items():
        others = f" (and {len(names) - 1} others)" if len(names) > 1 else ""
        print(f"nid-prepare: warning: {names[0]}{others}: {words}", file=sys.stderr)


def make_furniture(options: argparse.Namespace) -> int:
    """Write procedural meshes in ShapeNet's layout, with a split file, by the options of `add_furniture`.

    Raises:
        UserError: when they cannot be written.
    """
    check_ranges(options, {"count": (3, math.inf)})
    make_out_folder(options.out)
    write_furniture(options.out, options.count, options.families, options.seed, options.layout)
    print(f"wrote {options.out}: {options.count} meshes and splits.json")
    print(
        f"next: nid-prepare shapes --input {options.out} --layout {options.layout} "
        f"--splits {options.out / 'splits.json'} --out PREPARED"
    )
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    limits = {"samples": (16, 1e9), "near": (0, 1), "surface": (0, 1e6), "grid": (0, 512), "ambiguous": (0, 1)}
    limits |= {"seed": (0, 2**63), "cores": (1, 4096)}
    check_ranges(options, limits)
    return Settings(options.samples, options.near, options.surface, options.grid, options.ambiguous, options.seed)


@contextmanager
def _alone(folder: Path, settings: Settings) -> Iterator[None]:
    """Make the folder, and keep other preparations out of it meanwhile."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = not (folder / INDEX).exists() and any(path.name != _LOCK for path in folder.iterdir())
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise UserError(
            f"--out {folder}", found=error.strerror or str(error), expected="a writable place", hint="choose another"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"--out {folder}",
                found="another preparation that is writing to it",
                expected="one at a time",
                hint="wait for it, or choose another folder",
            ) from None
        if foreign:
            raise UserError(
                f"--out {folder}",
                found="a folder with other files",
                expected="a new or empty one, or prepared shapes to go on with",
                hint="choose another",
            )
        if (folder / INDEX).exists():
            _check_settings(folder, settings)
        else:
            write_index(folder, asdict(settings), {}, {})
        try:
            yield
        finally:
            remove_unfinished(folder)  # of workers that were ended, now or in an earlier preparation


def _check_settings(folder: Path, settings: Settings) -> None:
    before, now = read_index(folder)["settings"], asdict(settings)
    if before != now:
        differ = ", ".join(f"--{key} {before.get(key)}" for key in now if before.get(key) != now[key])
        raise UserError(
            f"--out {folder}",
            found=f"shapes prepared with {differ}",
            expected="the same settings",
            hint="choose another folder, or these settings",
        )


def _collect(
    outcomes: Iterator[PreparationResult], files: Sequence[MeshFile], folder: Path, settings: Settings, strict: bool
) -> list[PreparationResult]:
    """Bring the index up to date while shapes come in, and whatever happens."""
    before = read_index(folder)
    listed: dict[str, Any] = {n: facts for n, facts in before["shapes"].items() if shape_file(folder, n).is_file()}
    refused: dict[str, str] = dict(before["refused"])
    all_of_them: list[PreparationResult] = []
    written = time.monotonic()
    try:
        for outcome in track(outcomes, "preparing", "shapes", len(files)):
            all_of_them.append(outcome)
            listed.pop(outcome.name, None)
            refused.pop(outcome.name, None)
            if outcome.facts is not None:
                listed[outcome.name] = outcome.facts
            else:
                refused[outcome.name] = outcome.reason
                if strict:
                    raise _stopped(outcome, folder)
            if time.monotonic() - written > _FLUSH:
                _write(folder, settings, listed, refused)
                written = time.monotonic()
    finally:
        _write(folder, settings, listed, refused)
    return all_of_them


def _write(folder: Path, settings: Settings, listed: dict[str, Any], refused: dict[str, str]) -> None:
    write_index(folder, asdict(settings), dict(sorted(listed.items())), dict(sorted(refused.items())))


def _stopped(outcome: PreparationResult, folder: Path) -> UserError:
    return UserError(
        outcome.name,
        found=f"a mesh that cannot be trusted ({outcome.reason})",
        expected="none, as --strict says",
        hint=f"repair or remove it, or leave --strict out; what is done is kept in {folder}",
    )
