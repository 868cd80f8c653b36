import hashlib

import pytest

from nid_dist.data.splits import assign_splits, folder_splits, stable_fraction
from nid_dist.errors import UserError

NAMES = [f"{folder}/{number:03}.png" for folder in ("cats", "dogs") for number in range(100)]


def test_globs_take_what_they_match() -> None:
    splits = assign_splits(NAMES, ["cats/00?.png"], ["dogs/*9.png", "cats/050.png"], where="here")
    assert splits["val"] == [f"cats/{number:03}.png" for number in range(10)]
    assert splits["test"] == ["cats/050.png", *(f"dogs/{number:03}.png" for number in range(9, 100, 10))]
    assert splits["train"] == [name for name in NAMES if name not in splits["val"] + splits["test"]]


def test_names_with_brackets_match_themselves() -> None:
    assert assign_splits(["a[1].png", "b.png"], [], ["a[1].png"], where="here")["test"] == ["a[1].png"]


def test_shares_are_kept_about_and_apart() -> None:
    splits = assign_splits(NAMES, 0.2, 0.3, where="here")
    assert sorted(splits["train"] + splits["val"] + splits["test"]) == sorted(NAMES)
    # Binomial with 200 draws: standard deviations 5.7 and 6.5; four of them.
    assert abs(len(splits["val"]) - 40) < 23 and abs(len(splits["test"]) - 60) < 26


def test_adding_images_moves_no_other() -> None:
    before = assign_splits(NAMES, 0.2, 0.3, where="here")
    after = assign_splits(sorted([*NAMES, *(f"aardvark/{i}.png" for i in range(500))]), 0.2, 0.3, where="here")
    for split, members in before.items():
        assert members == [name for name in after[split] if not name.startswith("aardvark")]


def test_a_larger_test_share_moves_images_only_into_test() -> None:
    before, after = (assign_splits(NAMES, 0.2, share, where="here") for share in (0.1, 0.4))
    assert set(before["test"]) < set(after["test"]) and before["val"] == after["val"]


def test_a_list_comes_before_a_share() -> None:
    splits = assign_splits(NAMES, ["cats/*"], 0.5, where="here")
    assert splits["val"] == NAMES[:100]
    assert all(name.startswith("dogs") for name in splits["test"])


def test_fraction_is_the_head_of_sha256() -> None:
    digest = hashlib.sha256(b"cats/000.png").hexdigest()
    assert stable_fraction("cats/000.png") == pytest.approx(int(digest[:16], 16) / 16**16, abs=1e-15)


def test_composed_and_decomposed_letters_are_one_name() -> None:
    assert stable_fraction("caf\u00e9.png") == stable_fraction("cafe\u0301.png")


@pytest.mark.parametrize(
    ("val", "test", "message"),
    [
        (["*.jpg"], 0.0, r"signals.val: found '\*.jpg', which matches no image of here"),
        (0.0, ["cats/*", "birds/*"], r"signals.test: found 'birds/\*'"),
        (["cats/*"], ["*/000.png"], "found 'cats/000.png' .1 in all. in both lists"),
        (0.5, 0.5, "shares of 0.5 and 0.5"),
        (["*"], 0.0, "here: found no training image .200 for validation"),
        (["cats/*"], ["dogs/*"], "here: found no training image .100 for validation, 100 for test"),
        (0.0, 1e-9, "signals.test: found no image in the share 1e-09 of the 200 images"),
        (1e-9, 0.0, "signals.val: found no image"),
    ],
)
def test_impossible_splits_are_refused(val: list[str] | float, test: list[str] | float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        assign_splits(NAMES, val, test, where="here")


FOLDERS = ["test/a.png", "test/sub/b.png", *(f"train/{i}.png" for i in range(50))]


def test_top_folders_are_the_splits() -> None:
    splits = folder_splits([*FOLDERS, "val/c.png"], 0.0, where="here")
    assert splits == {"train": FOLDERS[2:], "val": ["val/c.png"], "test": FOLDERS[:2]}


@pytest.mark.parametrize("names", [["train/a.png"], ["test/a.png"], ["training/a.png", "tests/b.png"], ["a/train/b"]])
def test_without_both_folders_there_is_no_split(names: list[str]) -> None:
    assert folder_splits(names, 0.0, where="here") is None


def test_validation_is_taken_from_train_only() -> None:
    splits = folder_splits(FOLDERS, 0.3, where="here")
    assert splits is not None and splits["test"] == FOLDERS[:2]
    assert splits["val"] and sorted(splits["train"] + splits["val"]) == sorted(FOLDERS[2:])


def test_images_beside_the_folders_are_refused() -> None:
    with pytest.raises(UserError, match="here: found 'stray.png' .1 in all. beside the folders"):
        folder_splits([*FOLDERS, "stray.png"], 0.0, where="here")


def test_two_rules_for_validation_are_refused() -> None:
    with pytest.raises(UserError, match="signals.val: found 0.1 and a folder val"):
        folder_splits([*FOLDERS, "val/c.png"], 0.1, where="here")
