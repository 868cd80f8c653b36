from pathlib import Path

import pytest

from nid_dist.errors import UserError
from nid_dist.tasks.images.celeba import list_celeba

LINES = "000001.jpg 0\n000002.jpg 0\n000003.jpg 1\n000004.jpg 2\n"


def layout(root: Path, lines: str = LINES, place: str = "", images: int = 4) -> Path:
    (root / "img_align_celeba").mkdir()
    for number in range(1, images + 1):
        (root / "img_align_celeba" / f"{number:06}.jpg").touch()
    (root / place).mkdir(exist_ok=True)
    (root / place / "list_eval_partition.txt").write_text(lines)
    return root


@pytest.mark.parametrize("place", ["", "Eval", "Anno"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n"])
def test_layout(tmp_path: Path, place: str, ending: str) -> None:
    images, splits = list_celeba(layout(tmp_path, LINES.replace("\n", ending), place))
    assert images == tmp_path / "img_align_celeba"
    assert splits == {"train": ["000001.jpg", "000002.jpg"], "val": ["000003.jpg"], "test": ["000004.jpg"]}


def test_limit_needs_only_its_own_images(tmp_path: Path) -> None:
    lines = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n000009.jpg 0\n"
    _, splits = list_celeba(layout(tmp_path, lines, images=3), limit=1)
    assert splits == {"train": ["000001.jpg"], "val": ["000002.jpg"], "test": ["000003.jpg"]}


def test_missing_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"000003.jpg: found no such file \(2 of the listed images are missing\)"):
        list_celeba(layout(tmp_path, images=2))


@pytest.mark.parametrize(
    "line", ["000005.jpg", "000005.jpg 3", "000005.jpg x", " 0", "../000005.jpg 0", "a\\b.jpg 0", "/e.jpg 1"]
)
def test_malformed_lines_are_refused_with_their_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(UserError, match="list_eval_partition.txt, line 5: found") as caught:
        list_celeba(layout(tmp_path, LINES + line + "\n"))
    assert caught.value.expected == "a file name and 0, 1 or 2"


def test_an_image_in_two_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 5: found 000001.jpg a second time"):
        list_celeba(layout(tmp_path, LINES + "000001.jpg 2\n"))


def test_a_missing_list_folder_or_training_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="img_align_celeba: found no such folder"):
        list_celeba(tmp_path)
    (tmp_path / "img_align_celeba").mkdir()
    with pytest.raises(UserError, match="list_eval_partition.txt: found no such file, nor in Eval/ or Anno/"):
        list_celeba(tmp_path)
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 2\n")
    with pytest.raises(UserError, match="found no training image"):
        list_celeba(tmp_path)


def test_a_binary_list_is_refused(tmp_path: Path) -> None:
    layout(tmp_path)
    (tmp_path / "list_eval_partition.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="list_eval_partition.txt: found an unreadable file"):
        list_celeba(tmp_path)
