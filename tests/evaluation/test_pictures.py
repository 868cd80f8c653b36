"""The pixels that are saved, and what the figures say: captions, scales, layout."""

import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from nid_dist.evaluation import pictures
from nid_dist.evaluation.pictures import atoms_sheet, comparison, curve, error_map, save_image


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures drawn in a test, in place of the files they would be saved to."""
    drawn: list[Figure] = []
    monkeypatch.setattr(pictures, "save_figure", lambda path, figure: drawn.append(figure))
    return drawn


def test_saved_pixels(tmp_path: Path) -> None:
    array = np.array([[[0.0, 0.5, 1.0], [-1.0, 2.0, np.nan]]], dtype=np.float32)
    save_image(tmp_path / "sub" / "a.png", array)
    with Image.open(tmp_path / "sub" / "a.png") as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        assert np.array(picture).tolist() == [[[0, 128, 255], [0, 255, 0]]]
    assert os.listdir(tmp_path / "sub") == ["a.png"]


def test_saved_grey_pixels(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.float32).reshape(16, 16, 1)
    save_image(tmp_path / "a.png", levels / 255)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "L"
        assert np.array_equal(np.array(picture), levels[..., 0])


def test_two_channels_are_no_picture(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[H, W, 1\] or \[H, W, 3\]"):
        save_image(tmp_path / "a.png", np.zeros((2, 2, 2)))


def test_error_map_is_in_grey_levels() -> None:
    target = np.zeros((1, 3, 3))
    estimate = np.array([[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [-0.3, 0.0, 0.6]]])
    assert error_map(estimate, target) == pytest.approx(np.array([[0.0, 255.0, 76.5]]))


def test_comparison_shows_what_it_says(figures: list[Figure]) -> None:
    original = np.full((20, 20, 3), 0.5)
    reconstructions = {"a": original + 0.1, "b": original + 0.01, "c": original + 5.0}
    comparison("x.png", original, reconstructions, title="k = 64, $n", captions={"b": "SSIM 0.5"})
    (figure,) = figures
    axes = np.array(figure.axes[:8]).reshape(2, 4)
    assert [axis.get_title() for axis in axes[0]] == [
        "original",
        "a\n20.00 dB",
        "b\n40.00 dB\nSSIM 0.5",
        # Clipped to 1, half a peak away.
        "c\n6.02 dB",
    ]
    assert figure.get_suptitle() == "k = 64, $n"
    errors = [axis.images[0] for axis in axes[1, 1:]]
    assert [float(error.get_array().max()) for error in errors] == pytest.approx([25.5, 2.55, 127.5])
    assert {error.get_clim() for error in errors} == {(0.0, 128.0)}
    bar = axes[1, 0].child_axes[0]
    assert "absolute error" in bar.get_title()
    assert "1/255" in bar.get_xlabel()


def test_a_saturated_error_scale_says_so(figures: list[Figure]) -> None:
    original = np.zeros((40, 40, 1))
    estimate = original + 10 / 255
    estimate[0, 0] = 1.0
    comparison("x.png", original, {"a": estimate})
    axes = np.array(figures[0].axes[:4]).reshape(2, 2)
    assert axes[1, 1].images[0].get_clim()[1] in (10.0, 11.0)
    assert "largest 255" in axes[1, 0].child_axes[0].get_xlabel()


@pytest.mark.parametrize(("count", "grid"), [(1, (2, 2)), (4, (2, 5)), (5, (4, 4)), (8, (4, 5)), (9, (6, 4))])
def test_many_reconstructions_wrap_evenly(count: int, grid: tuple[int, int], figures: list[Figure]) -> None:
    original = np.zeros((8, 8, 1))
    comparison("x.png", original, {f"method {i}": original for i in range(count)})
    shape = figures[0].axes[0].get_subplotspec().get_gridspec().get_geometry()
    assert shape == grid
    assert sum(len(axis.images) for axis in figures[0].axes[: grid[0] * grid[1]]) == 1 + 2 * count


def test_a_comparison_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one reconstruction"):
        comparison("x.png", np.zeros((8, 8, 1)), {})


def test_atoms_are_signed_around_mid_grey(figures: list[Figure]) -> None:
    atoms = np.zeros((3, 1, 2, 1))
    atoms[0, 0, :, 0] = [-4.0, 2.0]
    atoms[1, 0, :, 0] = [0.01, 0.0]
    atoms_sheet("x.png", atoms, ["5 %", "3 %", "0 %"], title="atoms")
    axes = figures[0].axes
    assert [axis.get_title() for axis in axes[:3]] == ["5 %", "3 %", "0 %"]
    drawn = [axis.images[0].get_array().tolist() for axis in axes[:3]]
    assert drawn == [[[0.0, 0.75]], [[1.0, 0.5]], [[0.5, 0.5]]]
    for axis in axes[:3]:
        assert axis.images[0].get_clim() == (0.0, 1.0)
        assert axis.images[0].get_interpolation() == "nearest"


@pytest.mark.parametrize(("count", "labels"), [(0, 0), (2, 1), (2, 3)])
def test_atoms_need_one_label_each(count: int, labels: int) -> None:
    with pytest.raises(ValueError, match="one label each"):
        atoms_sheet("x.png", np.zeros((count, 4, 4, 3)), ["a"] * labels)


def test_curves(figures: list[Figure]) -> None:
    curve("x.png", {"a": ([1, 2, 3], [4.0, np.inf, 6.0]), "b": ([1], [2.0])}, "time (s)", "PSNR (dB)")
    (axis,) = figures[0].axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("time (s)", "PSNR (dB)")
    assert [line.get_label() for line in axis.lines] == ["a", "b"]
    assert np.array_equal(axis.lines[0].get_ydata(), [4.0, np.nan, 6.0], equal_nan=True)
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["a", "b"]


def test_texts_of_a_comparison_do_not_overlap(figures: list[Figure]) -> None:
    original = np.zeros((30, 30, 3))
    names = [f"a rather long name of a method, number {i}" for i in range(3)]
    comparison(
        "x.png",
        original,
        dict.fromkeys(names, original + 0.1),
        title="A title " * 12,
        captions=dict.fromkeys(names, "SSIM 0.987 · 196 bytes · 0.012 seconds"),
    )
    (figure,) = figures
    figure.draw_without_rendering()
    canvas = figure.bbox
    boxes = [axis.title.get_window_extent() for axis in figure.axes[:4]]
    boxes += [axis.images[0].get_window_extent() for axis in figure.axes[:8] if axis.images]
    boxes += [text.get_window_extent() for text in figure.texts]
    for place, box in enumerate(boxes):
        assert canvas.x0 <= box.x0 and box.x1 <= canvas.x1 and canvas.y0 <= box.y0 and box.y1 <= canvas.y1
        # A caption sits on the edge of its picture: two boxes may share a line of pixels.
        assert not any(box.padded(-1).overlaps(other) for other in boxes[place + 1 :])


def test_files_are_written(tmp_path: Path) -> None:
    original = np.random.default_rng(0).random((16, 24, 3))
    comparison(tmp_path / "comparison.png", original, {"a": original})
    atoms_sheet(tmp_path / "atoms.png", original[None] - 0.5, ["1"])
    curve(tmp_path / "curve.png", {"a": ([1.0, 2.0], [1.0, 2.0])}, "x", "y")
    assert sorted(os.listdir(tmp_path)) == ["atoms.png", "comparison.png", "curve.png"]
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert len(np.unique(np.array(picture.convert("L")))) > 10


def test_large_pictures_are_shown_as_means_of_blocks():
    picture = np.arange(2 * 3000 * 3, dtype=np.float64).reshape(2, 3000, 3)
    found = pictures._reduced(picture)
    assert found.shape == (1, 1000, 3)
    np.testing.assert_allclose(found[0, 0], picture[:, :3].mean((0, 1)))
    assert pictures._reduced(picture[:, :1024]) is not None and pictures._reduced(picture[:, :1024]).shape == (
        2,
        1024,
        3,
    )
