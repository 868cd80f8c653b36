"""Later checkpoints are moved aside, whole, and earlier ones stay."""

from pathlib import Path

import pytest

from nid_dist.checkpoints.run_folder import RunFolder
from nid_dist.errors import UserError
from nid_dist.training.branching import set_aside_later


def checkpoint(folder: Path, step: int, text: str) -> None:
    path = folder / "checkpoints" / f"step-{step:08d}"
    path.mkdir(parents=True)
    (path / "facts.json").write_text(text)


def test_only_later_ones_move(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        checkpoint(tmp_path, step, str(step))
    (tmp_path / "checkpoints" / "step-notes.txt").write_text("mine")
    moved = set_aside_later(RunFolder(tmp_path), 10)
    assert [path.name for path in moved] == ["step-00000020", "step-00000030"]
    assert [path.read_text() for folder in moved for path in folder.iterdir()] == ["20", "30"]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000010", "step-notes.txt"]


def test_a_second_branch_keeps_the_first(tmp_path: Path) -> None:
    for text in ("first", "second"):
        checkpoint(tmp_path, 20, text)
        set_aside_later(RunFolder(tmp_path), 5)
    kept = {path.name: (path / "facts.json").read_text() for path in (tmp_path / "abandoned").iterdir()}
    assert kept == {"step-00000020": "first", "step-00000020-2": "second"}


def test_nothing_to_do(tmp_path: Path) -> None:
    checkpoint(tmp_path, 20, "")
    assert set_aside_later(RunFolder(tmp_path), 20) == []
    assert not (tmp_path / "abandoned").exists()


def test_what_cannot_be_moved_is_said(tmp_path: Path) -> None:
    checkpoint(tmp_path, 20, "")
    (tmp_path / "abandoned").write_text("in the way")
    with pytest.raises(UserError, match=r"step-00000020: found that it cannot be moved"):
        set_aside_later(RunFolder(tmp_path), 0)
