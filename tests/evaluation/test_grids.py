"""A grid of pictures: every one of them where it belongs, small files."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from nid_dist.evaluation import grids
from nid_dist.evaluation.grids import picture_grid

RED, BLUE = (np.broadcast_to(np.float32(colour), (8, 12, 3)) for colour in ([1, 0, 0], [0, 0, 1]))


def test_pictures_stand_in_their_rows_and_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(grids, "save_figure", lambda path, figure, **_: drawn.append(figure))
    rows = {"one": {"a": (RED, "1 dB"), "b": (BLUE, "2 dB")}, "two": {"b": (RED, "3 dB")}}
    picture_grid(tmp_path / "grid.png", rows, title="a title")
    axes = np.array(drawn[0].axes).reshape(2, 2)
    assert [axis.get_title() for axis in axes[0]] == ["a", "b"] and axes[1, 1].get_title() == ""
    assert [axis.get_xlabel() for axis in axes.flat] == ["1 dB", "2 dB", "", "3 dB"]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["one", "two"]
    assert np.array_equal(axes[0, 1].images[0].get_array(), BLUE) and not axes[1, 0].images


def test_a_file_of_few_colours(tmp_path: Path) -> None:
    picture_grid(tmp_path / "new" / "grid.png", {"": {"a": (RED, ""), "b": (BLUE, "")}})
    with Image.open(tmp_path / "new" / "grid.png") as image:
        assert image.mode == "P" and image.size[0] > image.size[1]
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for colour in ([255, 0, 0], [0, 0, 255]):
        assert (np.abs(pixels - colour).sum(2) < 10).mean() > 0.1


def test_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        picture_grid(tmp_path / "grid.png", {})
