"""What listings of folders find, and what they say of the rest."""

from collections import Counter
from pathlib import Path

import pytest

from nid_dist.data.files import named_files, skipped_in_words, split_folder
from nid_dist.errors import SkippedFiles, UserError

ENDINGS = (".png",)


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    return path


def test_what_is_skipped_is_counted_by_kind(tmp_path: Path) -> None:
    folder(tmp_path, "a.png", "b.HEIC", "c.heic", "deep/d.bmp", "deep/e", ".hidden.gif")
    with pytest.warns(SkippedFiles) as said:
        found = named_files([tmp_path], ENDINGS)
    assert [name for name, _ in found] == ["a.png"]
    (line,) = [str(each.message) for each in said]
    counted = "skipped 2 .heic, 1 .bmp, 1 without an ending: no images that are read"
    assert line == f"{tmp_path}: {counted}"


def test_many_kinds() -> None:
    skipped = Counter({f".{letter}": 9 - place for place, letter in enumerate("abcdefgh")})
    assert skipped_in_words(skipped, "mesh") == (
        "skipped 9 .a, 8 .b, 7 .c, 6 .d, 5 .e, 4 .f and 5 others: no meshes that are read"
    )
    assert skipped_in_words(Counter()) is None


def test_nothing_but_others(tmp_path: Path) -> None:
    folder(tmp_path, "a.heic")
    with pytest.raises(UserError, match=r"found no image \(skipped 1 .heic: no images that are read\)"):
        split_folder(tmp_path, ENDINGS, 0.0, 0.0)
