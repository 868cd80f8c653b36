"""The layout of CelebA: `img_align_celeba/` and the list that says which image trains, validates and tests.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015.
"""

import os
from pathlib import Path, PurePosixPath

from nid_dist.data.splits import SPLITS, Split
from nid_dist.errors import UserError

_IMAGES = "img_align_celeba"
_LIST = "list_eval_partition.txt"
_PLACES = ("", "Eval", "Anno")


def list_celeba(root: Path, limit: int | None = None) -> tuple[Path, dict[Split, list[str]]]:
    """The folder of CelebA's images, and the file names of each split in the order of its own partition list.

    Args:
        root: holds `img_align_celeba/` and `list_eval_partition.txt` (or has it in `Eval/` or `Anno/`).
        limit: at most this many images of each split; only those must be there.

    Raises:
        UserError: the folder or the list is missing, a line of it is malformed, a listed image is missing, or no
            image is left to train on.
    """
    images = root / _IMAGES
    if not images.is_dir():
        raise UserError(
            str(images), found="no such folder", expected="the aligned images", hint="unpack img_align_celeba.zip there"
        )
    partition = next((path for place in _PLACES if (path := root / place / _LIST).is_file()), None)
    if partition is None:
        raise UserError(
            str(root / _LIST),
            found="no such file, nor in Eval/ or Anno/",
            expected="CelebA's partition list",
            hint="copy it there",
        )
    splits = {split: names[:limit] for split, names in _read_partition(partition).items()}
    if not splits["train"]:
        raise UserError(
            str(partition), found="no training image", expected="lines that end in 0", hint="restore the original list"
        )
    present = set(os.listdir(images))
    missing = [name for names in splits.values() for name in names if name not in present]
    if missing:
        raise UserError(
            str(images / missing[0]),
            found=f"no such file ({len(missing)} of the listed images are missing)",
            expected=f"every image of {partition.name}",
            hint="unpack img_align_celeba.zip again, or set signals.limit",
        )
    return images, splits


def _read_partition(path: Path) -> dict[Split, list[str]]:
    splits: dict[Split, list[str]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            str(path), found=f"an unreadable file ({error})", expected="CelebA's partition list", hint="restore it"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, digit = line.strip().rpartition(" ")
        name = name.strip()
        if digit not in ("0", "1", "2") or not name or PurePosixPath(name).name != name or "\\" in name:
            raise UserError(
                f"{path}, line {number}",
                found=repr(line),
                expected="a file name and 0, 1 or 2",
                hint="restore the original list",
            )
        if name in seen:
            raise UserError(
                f"{path}, line {number}",
                found=f"{name} a second time",
                expected="each image in one split",
                hint="remove one of the lines",
            )
        seen.add(name)
        splits[SPLITS[int(digit)]].append(name)
    return splits
