"""Files of signals below a folder: found, named, and split for training, validation and test; none of them read yet."""

import os
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from nid_dist.data.splits import Split, assign_splits, folder_splits
from nid_dist.errors import SkippedFiles, UserError

# What is in every folder that a fit, a report, and a training has written: what lies beside it is no signal.
_WRITTEN = ({"codes.safetensors"}, {"results.json", "table.md"}, {"config.yaml", "checkpoints"})


def find_files(root: Path, endings: Collection[str], skipped: Counter[str] | None = None) -> list[str]:
    """Find files below a folder, links followed: sorted posix paths relative to it.

    Hidden files and folders are left out, and those that hold results of this package: a folder of signals in which
    some were written would otherwise grow by its own reconstructions. The root itself is taken as it is.

    Args:
        root: the folder.
        endings: in lower case, such as ".png".
        skipped: what other files there are is counted in it, by ending in lower case.

    Raises:
        UserError: a folder in it cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise UserError(
            str(error.filename),
            found=f"a folder that cannot be listed ({error.strerror})",
            expected="a readable folder",
            hint="grant access to it or move it away",
        )

    names: list[str] = []
    visited: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        if folder != str(root) and any(names <= {*files, *subfolders} for names in _WRITTEN):
            among = sum(Path(name).suffix.lower() in endings for name in files)
            if skipped is not None and among:
                skipped["among results of nid_dist"] += among
            subfolders.clear()
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in (name for name in files if not name.startswith(".")):
            ending = Path(name).suffix.lower()
            if ending in endings:
                names.append(Path(folder, name).relative_to(root).as_posix())
            elif skipped is not None:
                skipped[ending] += 1
    return sorted(names)


def skipped_in_words(skipped: Counter[str], noun: str = "image") -> str | None:
    """What a listing has left out, for the end of a command: by kind, the most frequent first; None where nothing."""
    if not skipped:
        return None
    kinds = [f"{count} {ending or 'without an ending'}" for ending, count in skipped.most_common(6)]
    rest = skipped.total() - sum(count for _, count in skipped.most_common(6))
    plural = f"{noun}es" if noun.endswith("sh") else f"{noun}s"
    return f"skipped {', '.join(kinds)}{f' and {rest} others' if rest else ''}: no {plural} that are read"


def listed_files(root: Path, endings: Collection[str], noun: str = "image", hint: str = "check the path") -> list[str]:
    """Find files as `find_files` does, at least one.

    Raises:
        UserError: when there is none, or a folder cannot be listed.

    Warns:
        SkippedFiles: of all others, counted by kind.
    """
    skipped: Counter[str] = Counter()
    names = find_files(root, endings, skipped)
    others = skipped_in_words(skipped, noun)
    if not names:
        raise UserError(
            str(root),
            found=f"no {noun}" + (f" ({others})" if others else ""),
            expected=f"files ending in {', '.join(sorted(endings))}",
            hint=hint,
        )
    warn_of_skipped(root, skipped, noun, stacklevel=3)
    return names


def warn_of_skipped(root: Path, skipped: Counter[str], noun: str = "image", *, stacklevel: int = 2) -> None:
    """Warn of what a listing has left out, if anything.

    Warns:
        SkippedFiles: in words.
    """
    others = skipped_in_words(skipped, noun)
    if others:
        warnings.warn(f"{root}: {others}", SkippedFiles, stacklevel=stacklevel + 1)


def named_files(inputs: Sequence[Path], endings: Collection[str], noun: str = "image") -> list[tuple[str, Path]]:
    """The files that a user names, one by one or by folder: a name that no other has, and the path, of each.

    The endings, of files in folders, are in lower case.

    Raises:
        UserError: for a path that is neither, and for a folder without such files.

    Warns:
        SkippedFiles: of other files in folders.
    """
    found: list[tuple[str, Path]] = []
    for path in inputs:
        if path.is_dir():
            found += [(name, path / name) for name in listed_files(path, endings, noun)]
        elif path.is_file():
            found.append((path.name, path))
        else:
            raise UserError(
                str(path),
                found="nothing",
                expected=f"{'an' if noun[0] in 'aeiou' else 'a'} {noun} or a folder",
                hint="check the path",
            )
    times = Counter(name for name, _ in found)
    return [(name if times[name] == 1 else f"{index}-{name}", path) for index, (name, path) in enumerate(found)]


def split_folder(
    root: Path, endings: Collection[str], val: list[str] | float, test: list[str] | float, noun: str = "image"
) -> dict[Split, list[str]]:
    """Find the files below a folder, by endings in lower case, and split them.

    Args:
        val: globs, or the share of files, for validation.
        test: globs, or the share of files, for test; 0: by top folders train, test (and val) where there are such.

    Returns:
        Sorted names, relative to the folder, of "train", "val" and "test", none in two of them.

    Raises:
        UserError: without such a file, and as `assign_splits` and `folder_splits`.

    Warns:
        SkippedFiles: of other files in it.
    """
    names = listed_files(root, endings, noun, "check signals.path")
    if not test:
        splits = folder_splits(names, val, where=str(root), noun=noun)
        if splits is not None:
            return splits
    return assign_splits(names, val, test, where=str(root), noun=noun)


def existing_folder(path: str | None, noun: str = "image") -> Path:
    """The folder that `signals.path` names.

    Raises:
        UserError: when there is no such folder.
    """
    root = Path(path or "").expanduser()
    if not path or not root.is_dir():
        raise UserError(
            f"signals.path {path}",
            found="a file" if path and root.exists() else "no such folder",
            expected=f"the folder with the {noun}s",
            hint="check signals.path",
        )
    return root
