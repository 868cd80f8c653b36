"""Which images train, validate and test: by name, by a stable share, or by top folders; never two at once."""

import hashlib
import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from nid_dist.errors import UserError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def assign_splits(
    names: Sequence[str], val: list[str] | float, test: list[str] | float, *, where: str, noun: str = "image"
) -> dict[Split, list[str]]:
    """Divide names into the three splits.

    A list of globs takes the names that it matches; a share takes the rest by a hash of the name alone, so that
    adding images never moves others.

    Args:
        val: globs, or the share of images, for validation.
        test: globs, or the share of images, for test.

    Raises:
        UserError: a glob without a match, a name that both lists match, a share that gets no image, or no image
            left to train on.
    """
    if _share(val) + _share(test) >= 1:
        raise UserError(
            "signals.val and signals.test",
            found=f"shares of {_share(val):g} and {_share(test):g}",
            expected=f"a sum below 1, so that {noun}s are left to train on",
            hint="choose smaller shares",
        )
    named = {
        "val": _matches(names, val, "signals.val", where, noun),
        "test": _matches(names, test, "signals.test", where, noun),
    }
    both = sorted(named["val"] & named["test"])
    if both:
        raise UserError(
            "signals.val and signals.test",
            found=f"{both[0]!r} ({len(both)} in all) in both lists",
            expected=f"each {noun} in one split",
            hint="remove it from one of the lists",
        )
    splits: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for name in names:
        splits[_split_of(name, named, val, test)].append(name)
    _check_shares(splits, val, test, where, noun)
    return splits


def folder_splits(
    names: Sequence[str], val: list[str] | float, *, where: str, noun: str = "image"
) -> dict[Split, list[str]] | None:
    """Divide names by top folders `train`, `test` and, optionally, `val`.

    Args:
        names: relative posix paths of all images.
        val: globs, or the share of the images in `train`, for validation where there is no folder `val`.

    Returns:
        Names of each split in the given order, or None without top folders `train` and `test`.

    Raises:
        UserError: an image outside these folders, or both a folder and a rule for validation.
    """
    splits: dict[Split, list[str]] = {
        split: [name for name in names if name.startswith(f"{split}/")] for split in SPLITS
    }
    if not splits["train"] or not splits["test"]:
        return None
    outside = [name for name in names if not name.startswith(tuple(f"{split}/" for split in SPLITS))]
    if outside:
        raise UserError(
            where,
            found=f"{outside[0]!r} ({len(outside)} in all) beside the folders train and test",
            expected=f"every {noun} in train, val or test",
            hint="move or remove it, or say what is kept for test in signals.test",
        )
    if not val:
        return splits
    if splits["val"]:
        raise UserError(
            "signals.val", found=f"{val} and a folder val in {where}", expected="one of them", hint="remove signals.val"
        )
    # Never by a hash over everything: images of the folder test would be trained on.
    return {**assign_splits(splits["train"], val, 0.0, where=f"{where}/train", noun=noun), "test": splits["test"]}


def stable_fraction(name: str) -> float:
    """Map a name to a number in [0, 1) that depends on nothing else: uniform (SHA-256), the same on every machine."""
    # macOS hands out decomposed letters, other systems composed ones: the same file must stay in its split.
    digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _split_of(name: str, named: dict[str, set[str]], val: list[str] | float, test: list[str] | float) -> Split:
    if name in named["val"]:
        return "val"
    if name in named["test"]:
        return "test"
    fraction = stable_fraction(name)
    if fraction < _share(test):
        return "test"
    # From the other end, so that a changed test share moves no image between train and val.
    return "val" if fraction >= 1 - _share(val) else "train"


def _share(rule: list[str] | float) -> float:
    return 0.0 if isinstance(rule, list) else rule


def _matches(names: Sequence[str], rule: list[str] | float, key: str, where: str, noun: str) -> set[str]:
    matched: set[str] = set()
    for pattern in rule if isinstance(rule, list) else []:
        hits = {name for name in names if name == pattern or fnmatchcase(name, pattern)}
        if not hits:
            some = ", ".join(names[:3])
            raise UserError(
                key,
                found=f"{pattern!r}, which matches no {noun} of {where}",
                expected=f"names or globs of its {noun}s, such as {some}",
                hint="correct or remove it",
            )
        matched |= hits
    return matched


def _check_shares(
    splits: dict[Split, list[str]], val: list[str] | float, test: list[str] | float, where: str, noun: str
) -> None:
    total = sum(len(members) for members in splits.values())
    for key, rule, members in (("val", val, splits["val"]), ("test", test, splits["test"])):
        if _share(rule) > 0 and not members:
            raise UserError(
                f"signals.{key}",
                found=f"no {noun} in the share {_share(rule):g} of the {total} {noun}s of {where}",
                expected="at least one",
                hint=f"choose a larger share, or name {noun}s in signals.{key}",
            )
    if not splits["train"]:
        raise UserError(
            where,
            found=f"no training {noun} ({len(splits['val'])} for validation, {len(splits['test'])} for test)",
            expected="at least one",
            hint=f"keep fewer {noun}s apart in signals.val and signals.test, or add {noun}s",
        )
