import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nid_dist.data.files import find_files
from nid_dist.data.reading import EXTENSIONS
from nid_dist.errors import UserError
from nid_dist.tasks.images.config import PhotosSection
from nid_dist.tasks.images.sources import EMBEDDED, list_images


def save(root: Path, *names: str) -> None:
    for shade, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, np.full((3, 4), shade, np.uint8))
        else:
            Image.new("RGB", (4, 3), (shade, 0, 0)).save(path)


def folder(root: Path, **options: Any) -> dict[str, list[str]]:
    splits = list_images(PhotosSection(source="folder", path=str(root), **options))
    return {split: [ref.name for ref in refs] for split, refs in splits.items()}


def test_embedded_photographs() -> None:
    splits = list_images(PhotosSection(test=["astronaut"], val=["co*"]))
    assert [ref.name for ref in splits["test"]] == ["astronaut"]
    assert [ref.name for ref in splits["val"]] == ["coffee", "coins"]
    assert [ref.name for ref in splits["train"]] == [n for n in EMBEDDED if n not in ("astronaut", "coffee", "coins")]


# Sizes as documented by scikit-image.
@pytest.mark.parametrize(
    ("name", "shape"),
    [("astronaut", (512, 512)), ("chelsea", (300, 451)), ("stereo_motorcycle", (500, 741)), ("coins", (303, 384))],
)
@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_embedded_photographs_load(name: str, shape: tuple[int, int], colour: str) -> None:
    refs = {ref.name: ref for ref in list_images(PhotosSection(colour=colour))["train"]}
    image = refs[name].load()
    assert image.shape == (*shape, 3 if colour == "rgb" else 1)
    assert image.dtype == np.float32 and 0 <= image.min() < 0.1 and 0.7 < image.max() <= 1


def test_a_folder_is_recursive_sorted_and_named_by_relative_path(tmp_path: Path) -> None:
    save(tmp_path, "b.PNG", "a/z.jpeg", "a/y.JPG", "c.webp", "d/e/f.tiff", "d/e/g.Tif", "h.npy")
    for other in ("notes.txt", "a.png.bak", ".hidden.png", "._b.png", ".cache/i.png", "a/.git/j.png", "k.gif"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"x")
    names = ["a/y.JPG", "a/z.jpeg", "b.PNG", "c.webp", "d/e/f.tiff", "d/e/g.Tif", "h.npy"]
    assert find_files(tmp_path, EXTENSIONS) == names
    assert folder(tmp_path) == {"train": names, "val": [], "test": []}
    refs = list_images(PhotosSection(source="folder", path=str(tmp_path), colour="grey"))["train"]
    assert [ref.load().shape for ref in refs] == [(3, 4, 1)] * 7
    assert all(ref.size is not None and ref.size() == (3, 4) for ref in refs)


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    save(tmp_path, "images/a.png", "elsewhere/b.png")
    (tmp_path / "images" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
    assert find_files(tmp_path / "images", EXTENSIONS) == ["a.png", "link/b.png"]


def test_globs_on_relative_paths(tmp_path: Path) -> None:
    save(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    splits = folder(tmp_path, val=["a/1*"], test=["b/*"])
    assert splits == {"train": ["a/2.png"], "val": ["a/1.png"], "test": ["b/1.png", "b/2.png"]}


def test_top_folders(tmp_path: Path) -> None:
    save(tmp_path, "train/a.png", "test/a.png", "val/x/b.png")
    assert folder(tmp_path) == {"train": ["train/a.png"], "val": ["val/x/b.png"], "test": ["test/a.png"]}
    # An explicit rule for the test images overrides the folders.
    assert folder(tmp_path, test=["val/*"])["train"] == ["test/a.png", "train/a.png"]


def test_limit_is_per_split(tmp_path: Path) -> None:
    save(tmp_path, *(f"{split}/{i}.png" for split in ("train", "test") for i in range(5)))
    assert folder(tmp_path, limit=2) == {
        "train": ["train/0.png", "train/1.png"],
        "val": [],
        "test": ["test/0.png", "test/1.png"],
    }


def test_share_moves_nothing_when_images_are_added(tmp_path: Path) -> None:
    save(tmp_path, *(f"{i}.png" for i in range(40)))
    before = folder(tmp_path, val=0.2, test=0.2)
    save(tmp_path, *(f"0_new_{i}.png" for i in range(20)))
    after = folder(tmp_path, val=0.2, test=0.2)
    for split, members in before.items():
        assert members == [name for name in after[split] if "new" not in name]


def test_an_unreadable_image_is_listed_and_fails_by_name(tmp_path: Path) -> None:
    save(tmp_path, "good.png")
    (tmp_path / "bad.png").write_text("no image")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    refs = {ref.name: ref for ref in list_images(PhotosSection(source="folder", path=str(tmp_path)))["train"]}
    assert set(refs) == {"good.png", "bad.png", "dangling.png"}
    for name in ("bad.png", "dangling.png"):
        with pytest.raises(UserError, match=name):
            refs[name].load()


def test_empty_missing_and_wrong_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no image, expected files ending in .dcm, .jpeg, .jpg"):
        folder(tmp_path)
    with pytest.raises(UserError, match="signals.path .*nowhere: found no such folder"):
        folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="signals.path .*file: found a file"):
        folder(tmp_path / "file")


def test_globs_without_a_match_and_no_training_image_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "a.png", "b.png")
    with pytest.raises(UserError, match="signals.test: found 'c.png'"):
        folder(tmp_path, test=["c.png"])
    with pytest.raises(UserError, match="found no training image"):
        folder(tmp_path, test=["*"])
    with pytest.raises(UserError, match="signals.test: found 'astronaut.png', which matches no .*embedded"):
        list_images(PhotosSection(test=["astronaut.png"]))


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(folder: str) -> Any:
        if "locked" in str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="locked: found a folder that cannot be listed .Permission denied"):
        find_files(tmp_path, EXTENSIONS)


def test_celeba_brings_its_own_splits(tmp_path: Path) -> None:
    save(tmp_path, *(f"img_align_celeba/{i}.jpg" for i in range(4)))
    (tmp_path / "list_eval_partition.txt").write_text("0.jpg 0\n1.jpg 1\n2.jpg 2\n3.jpg 0\n")
    config = PhotosSection(source="celeba", path=str(tmp_path), limit=1)
    splits = list_images(config)
    assert {split: [ref.name for ref in refs] for split, refs in splits.items()} == {
        "train": ["0.jpg"],
        "val": ["1.jpg"],
        "test": ["2.jpg"],
    }
    assert splits["test"][0].load().shape == (3, 4, 3)
    with pytest.raises(UserError, match="signals.test: found 0.1, expected 0.0 with signals.source celeba"):
        list_images(PhotosSection(source="celeba", path=str(tmp_path), test=0.1))
