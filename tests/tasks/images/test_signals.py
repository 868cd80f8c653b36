from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nid_dist.errors import UserError
from nid_dist.tasks.images.config import PhotosSection
from nid_dist.tasks.images.signals import ImageSignals
from nid_dist.tasks.images.sources import ImageRef, list_images


class Source:
    """Images with a different value in every sample, and a count of how often each was read."""

    def __init__(self, *shapes: tuple[int, int], channels: int = 3) -> None:
        total = sum(h * w * channels for h, w in shapes)
        flat, first = np.linspace(0, 1, total, dtype=np.float32), 0
        self.images, self.reads = [], [0] * len(shapes)
        for h, w in shapes:
            self.images.append(flat[first : first + h * w * channels].reshape(h, w, channels))
            first += h * w * channels

    def refs(self, sized: bool = True) -> list[ImageRef]:
        def load(index: int) -> np.ndarray:
            self.reads[index] += 1
            return self.images[index]

        def size(index: int) -> tuple[int, int]:
            height, width, _ = self.images[index].shape
            return height, width

        return [
            ImageRef(f"image{i}", partial(load, i), partial(size, i) if sized else None)
            for i in range(len(self.images))
        ]


def config(**options: Any) -> PhotosSection:
    return PhotosSection(**{"patch": 4, **options})


@pytest.mark.parametrize(
    ("shape", "stride", "rows", "cols"),
    [
        ((8, 8), None, [0, 4], [0, 4]),
        ((9, 11), None, [0, 4, 5], [0, 4, 7]),  # the last ones shifted inwards
        ((4, 6), 2, [0], [0, 2]),
        ((4, 7), 2, [0], [0, 2, 3]),
        ((5, 4), 1, [0, 1], [0]),
    ],
)
def test_patches_on_the_grid(shape: tuple[int, int], stride: int | None, rows: list[int], cols: list[int]) -> None:
    source = Source(shape)
    signals = ImageSignals(source.refs(), config(stride=stride), channels=3)
    expected = [source.images[0][r : r + 4, c : c + 4].reshape(16, 3) for r in rows for c in cols]
    assert len(signals) == len(expected)
    np.testing.assert_array_equal(signals.values(torch.arange(len(signals)), None).numpy(), np.stack(expected))


def test_signals_of_several_images_in_any_order() -> None:
    source = Source((4, 8), (8, 4), (4, 4))
    signals = ImageSignals(source.refs(), config(), channels=3)
    cuts = [(0, 0, 0), (0, 0, 4), (1, 0, 0), (1, 4, 0), (2, 0, 0)]
    ids = [4, 1, 3, 1, 0, 2]
    expected = [source.images[i][r : r + 4, c : c + 4].reshape(16, 3) for i, r, c in (cuts[n] for n in ids)]
    assert len(signals) == 5
    np.testing.assert_array_equal(signals.values(torch.tensor(ids)).numpy(), np.stack(expected))


def test_coordinates_are_pixel_centres() -> None:
    coords = ImageSignals(Source((4, 4)).refs(), config(patch=2), channels=3).coords
    assert coords.tolist() == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]


def test_the_eight_symmetries_by_hand() -> None:
    source = Source((2, 2), channels=1)
    a, b, c, d = source.images[0].ravel().tolist()
    signals = ImageSignals(source.refs(), config(patch=2, colour="grey"), channels=1)
    values = signals.values(torch.zeros(8, dtype=torch.int64), torch.arange(8))[..., 0].tolist()
    assert values[0] == [a, b, c, d]
    assert values[1] == [b, a, d, c]  # columns reversed
    assert values[2] == [c, d, a, b]  # rows reversed
    assert values[3] == [d, c, b, a]
    assert values[4] == [a, c, b, d]  # transposed
    assert values[5] == [c, a, d, b]
    assert values[6] == [b, d, a, c]
    assert values[7] == [d, b, c, a]


def test_symmetry_acts_on_coordinates() -> None:
    # Columns reversed: f'(y, x) = f(y, -x).
    signals = ImageSignals(Source((5, 5)).refs(), config(patch=5), channels=3)
    zero, one = torch.tensor([0]), torch.tensor([1])
    plain, mirrored = signals.values(zero)[0], signals.values(zero, one)[0]
    for position, (y, x) in enumerate(signals.coords.tolist()):
        there = (signals.coords - torch.tensor([y, -x])).abs().sum(1).argmin()
        assert torch.equal(mirrored[position], plain[there])


def test_whole_images() -> None:
    source = Source((6, 6), (12, 12))
    signals = ImageSignals(source.refs(), config(patch=None, size=6), channels=3)
    values = signals.values(torch.tensor([0, 1]))
    assert len(signals) == 2 and values.shape == (2, 36, 3) and len(signals.coords) == 36
    np.testing.assert_array_equal(values[0].numpy(), source.images[0].reshape(36, 3))
    assert source.reads == [1, 1]


@pytest.mark.parametrize("sized", [True, False])
def test_images_are_prepared_and_read_once(sized: bool) -> None:
    source = Source((20, 30), (16, 8))
    signals = ImageSignals(source.refs(sized), config(short_side=8), channels=3)
    assert source.reads == ([0, 0] if sized else [1, 1])
    assert len(signals) == 2 * 3 + 4 * 2  # 8 x 12 and 16 x 8
    for _ in range(3):
        signals.values(torch.arange(len(signals)))
    assert source.reads == [1, 1]
    assert signals.image(0).shape == (8, 12, 3) and signals.names == ["image0", "image1"]
    assert source.images[0].flags.writeable


def test_known_sizes_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    refs = [ImageRef("x", lambda: np.zeros((20, 30, 3), np.float32), lambda: 1 / 0)]  # type: ignore[arg-type,return-value]
    assert len(ImageSignals(refs, config(size=8), channels=3)) == 4


def test_a_batch_larger_than_the_cache_reads_each_image_once() -> None:
    source = Source(*[(300, 300)] * 3)  # about 1 MB each
    signals = ImageSignals(source.refs(), config(patch=100, cache_mb=1), channels=3)
    signals.values(torch.tensor([0, 9, 18, 1, 10, 19, 2, 11, 20]))
    assert source.reads == [1, 1, 1]


def test_prefetch_reads_ahead_and_hides_errors() -> None:
    source = Source((4, 4), (4, 4))
    refs = source.refs()

    def fail() -> np.ndarray:
        raise UserError("broken.png", found="x", expected="y", hint="z")

    signals = ImageSignals([*refs, ImageRef("broken.png", fail, lambda: (4, 4))], config(), channels=3)
    signals.prefetch(torch.tensor([1, 2]))
    signals.values(torch.tensor([1]))
    assert source.reads == [0, 1]
    with pytest.raises(UserError, match="broken.png"):
        signals.values(torch.tensor([2]))


def test_files_of_a_folder_through_their_headers(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    refs = list_images(PhotosSection(source="folder", path=str(tmp_path)))["train"]
    signals = ImageSignals(refs, config(patch=3), channels=3)
    assert len(signals) == 3 * 2
    upright = np.rot90(pixels, -1)
    np.testing.assert_allclose(signals.values(torch.tensor([0]))[0], upright[:3, :3].reshape(9, 3) / 255, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"crop": 3}, {"short_side": 3}, {"size": 3}])
def test_images_smaller_than_a_patch_are_refused_by_name(options: dict[str, int]) -> None:
    shapes = [(8, 8), (3, 9) if not options else (8, 8)]
    with pytest.raises(UserError, match="image.: found 3x. pixels, expected at least signals.patch 4"):
        ImageSignals(Source(*shapes).refs(), config(**options), channels=3)


def test_an_image_that_changed_is_refused() -> None:
    signals = ImageSignals(
        [ImageRef("x.png", lambda: np.zeros((5, 4, 3), np.float32), lambda: (4, 4))], config(), channels=3
    )
    with pytest.raises(UserError, match="x.png: found 5x4 pixels, expected 4x4 pixels, as at the start"):
        signals.values(torch.tensor([0]))


def test_other_channels_are_refused() -> None:
    signals = ImageSignals(Source((4, 4), channels=1).refs(), config(), channels=3)
    with pytest.raises(ValueError, match=r"image0: shape \(4, 4, 1\)"):
        signals.values(torch.tensor([0]))


def test_no_images_and_ids_out_of_range() -> None:
    signals = ImageSignals([], config(), channels=3)
    assert len(signals) == 0 and signals.values(torch.zeros(0, dtype=torch.int64)).shape == (0, 16, 3)
    for wrong in (0, -1):
        with pytest.raises(IndexError, match=f"signal {wrong} of 0"):
            signals.values(torch.tensor([wrong]))
