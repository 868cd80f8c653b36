"""ShapeNet's layouts, the names of categories, split files."""

import json
from pathlib import Path

import pytest

from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.tasks.shapes.furniture import write_furniture
from nid_dist.tasks.shapes.shapenet import CATEGORIES, Layout, find_meshes, read_splits, synset


@pytest.mark.parametrize("layout", ["shapenet-v1", "shapenet-v2"])
def test_procedural_furniture_is_a_small_shapenet(tmp_path: Path, layout: Layout) -> None:
    names = write_furniture(tmp_path, 9, ["chair", "table", "lamp"], 0, layout)
    assert names[:2] == ["03001627/chair-00000", "04379243/table-00001"]
    files = find_meshes(tmp_path, layout)
    assert [file.name for file in files] == sorted(names) and all(file.path.is_file() for file in files)
    assert all(file.split is None for file in files)
    chairs = find_meshes(tmp_path, layout, ["chair"], tmp_path / "splits.json")
    assert {file.name.split("/")[0] for file in chairs} == {"03001627"}
    splits = read_splits(tmp_path / "splits.json")
    assert {file.name: file.split for file in chairs}.items() <= splits.items()
    assert set(splits.values()) == {"train", "val", "test"}


def test_flat_folders(tmp_path: Path) -> None:
    for name in ("b.ply", "in/a.obj", "in/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in find_meshes(tmp_path, "flat")] == ["b", "in/a"]
    (tmp_path / "b.obj").touch()
    with pytest.raises(UserError, match="two meshes of one name"):
        find_meshes(tmp_path, "flat")


def test_the_thirteen_categories() -> None:
    assert len(CATEGORIES) == 13 and len(set(CATEGORIES.values())) == 13
    assert synset("Chair") == synset("03001627") == "03001627"
    assert synset("monitor") == CATEGORIES["display"] and synset("vessel") == CATEGORIES["watercraft"]
    with pytest.raises(UserError, match="neither eight digits nor"):
        synset("horse")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        find_meshes(tmp_path / "none", "flat")
    with pytest.raises(UserError, match="no mesh"):
        find_meshes(tmp_path, "shapenet-v2", ["chair"])
    write_furniture(tmp_path / "f", 3, ["lamp"], 0, "shapenet-v2")
    with pytest.raises(UserError, match="no mesh of 03001627"):
        find_meshes(tmp_path / "f", "shapenet-v2", ["chair"])
    (tmp_path / "other.json").write_text(json.dumps({"train": {"1": {"a": []}}}))
    with pytest.raises(UserError, match="none of the 3 meshes"):
        find_meshes(tmp_path / "f", "shapenet-v2", [], tmp_path / "other.json")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "cannot be read"),
        ("[]", "no object"),
        ('{"training": {}}', "other keys"),
        ('{"train": []}', "something else in train"),
        ('{"train": {"1": ["a"]}, "test": {"1": {"a": []}}}', "1/a in train and in test"),
        ('{"train": {"1": ["a"]}, "train": {"1": ["b"]}}', "the key 'train' twice"),
        ('{"train": {"1": [7]}}', "7 for an id in train"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_bad_split_files(tmp_path: Path, content: str, found: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(content)
    with pytest.raises(UserError, match=found):
        read_splits(path)


def test_meshes_and_names_that_do_not_meet_are_said(tmp_path: Path) -> None:
    for name in ("1/a", "1/b", "1/c"):
        (tmp_path / f"{name}.obj").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.obj").touch()
    path = tmp_path / "splits.json"
    # The synset 2 is another folder's; the letter that is missing in 1 is not.
    path.write_text(json.dumps({"train": {"1": ["a", "b"], "2": ["z"]}, "test": {"1": ["d"]}}))
    with pytest.warns(DoubtfulMeaning) as said:
        files = find_meshes(tmp_path, "flat", [], path)
    assert [(file.name, file.split) for file in files] == [("1/a", "train"), ("1/b", "train")]
    words = [str(each.message).partition(", taken as")[0] for each in said]
    assert words == [
        f"{path}: found 1 of 3 meshes not in it, such as 1/c",
        f"{path}: found 1 names that are no mesh here, such as 1/d (test)",
    ]
