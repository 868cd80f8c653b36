"""Where ShapeNet keeps its meshes, what its categories are called, and the R2N2 split file."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nid_dist.data.files import find_files, warn_of_skipped
from nid_dist.data.splits import SPLITS, Split
from nid_dist.errors import UserError, doubt
from nid_dist.tasks.shapes.mesh_reading import EXTENSIONS

Layout = Literal["shapenet-v1", "shapenet-v2", "flat"]
LAYOUTS: dict[Layout, str] = {
    "shapenet-v1": "SYNSET/ID/model.obj",
    "shapenet-v2": "SYNSET/ID/models/model_normalized.obj",
    "flat": "any folders of meshes",
}
CATEGORIES = {
    "airplane": "02691156",
    "bench": "02828884",
    "cabinet": "02933112",
    "car": "02958343",
    "chair": "03001627",
    "display": "03211117",
    "lamp": "03636649",
    "loudspeaker": "03691459",
    "rifle": "04090263",
    "sofa": "04256520",
    "table": "04379243",
    "telephone": "04401088",
    "watercraft": "04530566",
}
"""The 13 categories of R2N2 (Choy et al. 2016)."""
_ALSO = {"plane": "airplane", "monitor": "display", "speaker": "loudspeaker", "couch": "sofa", "phone": "telephone"}
_ALSO |= {"vessel": "watercraft", "cellphone": "telephone", "boat": "watercraft", "gun": "rifle"}


@dataclass(frozen=True)
class MeshFile:
    """A mesh to be prepared."""

    name: str  # unique, `synset/id` in ShapeNet's layouts
    path: Path  # of the file
    split: Split | None = None  # which it belongs to; None: not said


def synset(name: str) -> str:
    """The synset of a category's name, `chair`, or of itself, `03001627`: eight digits.

    Raises:
        UserError: for neither.
    """
    if len(name) == 8 and name.isdecimal():
        return name
    known = CATEGORIES.get(_ALSO.get(name.lower(), name.lower()))
    if known is None:
        raise UserError(
            f"synset {name}",
            found="neither eight digits nor a category's name",
            expected=f"a synset such as 03001627, or one of {', '.join(CATEGORIES)}",
            hint="choose one",
        )
    return known


def find_meshes(
    folder: Path, layout: Layout, synsets: Sequence[str] = (), splits: Path | None = None
) -> list[MeshFile]:
    """List a folder's meshes, of certain synsets (numbers or names), or of all where there are none.

    With an R2N2 split file, meshes that it does not name are left out.

    Raises:
        UserError: no folder, no mesh, an unknown category, a split file that is none, or one that names other meshes.

    Warns:
        DoubtfulMeaning: of meshes that it does not name, and of names of the folder's synsets that are no mesh.
    """
    if not folder.is_dir():
        raise UserError(str(folder), found="no folder", expected="one with meshes", hint="check the path")
    wanted = [synset(name) for name in synsets]
    if layout == "flat":
        skipped: Counter[str] = Counter()
        paths = [folder / name for name in find_files(folder, EXTENSIONS, skipped)]
        if splits is not None and folder in splits.parents:
            skipped -= Counter([splits.suffix.lower()])  # which is read
        warn_of_skipped(folder, skipped, "mesh")
        found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(paths)}
        if len(found) < len(paths):
            raise _names_twice(folder, sorted(paths))
    else:
        tail = LAYOUTS[layout].removeprefix("SYNSET/ID/")
        found = {"/".join(path.relative_to(folder).parts[:2]): path for path in sorted(folder.glob(f"*/*/{tail}"))}
    files = [MeshFile(name, path) for name, path in found.items() if not wanted or name.split("/")[0] in wanted]
    if not files:
        raise UserError(
            str(folder),
            found=f"no mesh{' of ' + ', '.join(wanted) if wanted else ''}",
            expected=f"{LAYOUTS[layout]} ({', '.join(EXTENSIONS)})" if layout == "flat" else LAYOUTS[layout],
            hint="check the folder, its layout and the synset",
        )
    if splits is None:
        return files
    named = read_splits(splits)
    kept = [MeshFile(file.name, file.path, named[file.name]) for file in files if file.name in named]
    if not kept:
        raise UserError(
            str(splits),
            found=f"none of the {len(files)} meshes, such as {files[0].name}",
            expected='{"train": {SYNSET: {ID: []}}, ...} with their names',
            hint="choose the split file that belongs to this folder",
        )
    _doubt_differences(splits, [file.name for file in files], named)
    return kept


def _doubt_differences(where: Path, files: Sequence[str], named: Mapping[str, Split]) -> None:
    """Say where a split file and the meshes of its synsets differ: names of other synsets are nobody's mistake."""
    synsets, there = {name.rpartition("/")[0] for name in files}, set(files)
    unnamed = [name for name in files if name not in named]
    absent = [name for name in named if name not in there and name.rpartition("/")[0] in synsets]
    if unnamed:
        doubt(
            str(where),
            found=f"{len(unnamed)} of {len(files)} meshes not in it, such as {unnamed[0]}",
            taken_as="meshes to leave out",
            hint="name them in it, or give none for meshes without a split",
            stacklevel=3,
        )
    if absent:
        doubt(
            str(where),
            found=f"{len(absent)} names that are no mesh here, such as {absent[0]} ({named[absent[0]]})",
            taken_as="meshes that are missing on purpose",
            hint="check the folder and the spelling of these names",
            stacklevel=3,
        )


def read_splits(path: Path) -> dict[str, Split]:
    """Read an R2N2 split file: `{"train" | "val" | "test": {SYNSET: {ID: [...]}}}`; lists of ids will do, too.

    Returns:
        The split of each `synset/id`.

    Raises:
        UserError: for anything else, or a shape in two splits.
    """

    def unfit(found: str) -> UserError:
        return UserError(
            str(path),
            found=found,
            expected='a split file, {"train": {SYNSET: {ID: []}}, "val": ..., "test": ...}',
            hint="check the path",
        )

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_once)
    except (OSError, ValueError, RecursionError) as error:
        raise unfit(f"a file that cannot be read ({error})") from error
    if not isinstance(content, dict) or not set(content) <= set(SPLITS) or not content:
        raise unfit("other keys than train, val and test" if isinstance(content, dict) else "no object")
    splits: dict[str, Split] = {}
    for split in SPLITS:
        groups = content.get(split, {})
        if not isinstance(groups, dict) or not all(isinstance(ids, dict | list) for ids in groups.values()):
            raise unfit(f"something else in {split}")
        for group, ids in groups.items():
            for name in ids:
                if not isinstance(name, str):
                    raise unfit(f"{name!r} for an id in {split}")
                if splits.setdefault(f"{group}/{name}", split) != split:
                    raise unfit(f"{group}/{name} in {splits[f'{group}/{name}']} and in {split}")
    return splits


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose reader would silently take the last of two values of a key."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _names_twice(folder: Path, paths: list[Path]) -> UserError:
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    twice = next(name for name in names if names.count(name) > 1)
    same = [path.name for path, name in zip(paths, names, strict=True) if name == twice]
    return UserError(
        str(folder),
        found=f"two meshes of one name ({', '.join(same)})",
        expected="one file for each name",
        hint="keep one of them",
    )
