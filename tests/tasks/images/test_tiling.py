import numpy as np
import pytest
import torch
from torch import Tensor

from nid_dist.errors import UserError
from nid_dist.tasks.images.tiling import Tiling

SHAPES = [(1, 1), (1, 9), (5, 3), (16, 16), (17, 31), (40, 24)]
PATCHES = [(1, 1), (4, 4), (4, 3), (4, 1), (7, 5), (16, 8), (None, None)]


def image_of(height: int, width: int, channels: int = 2) -> Tensor:
    return torch.rand(height, width, channels, generator=torch.Generator().manual_seed(height * 100 + width))


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize(("patch", "stride"), PATCHES)
def test_assemble_undoes_split(height: int, width: int, patch: int | None, stride: int | None) -> None:
    tiling, image = Tiling(height, width, patch, stride), image_of(height, width)
    patches = tiling.split(image)
    assert patches.shape == (len(tiling), len(tiling.coords), 2)
    torch.testing.assert_close(tiling.assemble(patches), image, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize(("patch", "stride"), PATCHES)
def test_split_against_numpy_padding(height: int, width: int, patch: int | None, stride: int | None) -> None:
    tiling, image = Tiling(height, width, patch, stride), image_of(height, width).numpy()
    ph, pw = tiling.patch_shape
    padded = np.pad(image, ((0, ph + height), (0, pw + width), (0, 0)), mode="edge")
    tiles = [padded[r : r + ph, c : c + pw].reshape(-1, 2) for r in tiling.rows for c in tiling.cols]
    np.testing.assert_array_equal(tiling.split(image).numpy(), np.stack(tiles))
    # Every pixel is covered, and no tile lies wholly outside.
    assert tiling.rows[-1] + ph >= height and tiling.cols[-1] + pw >= width
    assert tiling.rows[-1] < height and tiling.cols[-1] < width


def test_positions_by_hand() -> None:
    tiling = Tiling(10, 4, patch=4, stride=3)
    assert tiling.rows == [0, 3, 6] and tiling.cols == [0] and len(tiling) == 3
    assert Tiling(11, 4, patch=4, stride=3).rows == [0, 3, 6, 9]
    assert Tiling(8, 8, patch=4).rows == [0, 4]
    assert Tiling(3, 5).patch_shape == (3, 5) and len(Tiling(3, 5)) == 1


def oracle(tiling: Tiling, out: tuple[int, int], functions: list) -> np.ndarray:
    """Blend pixel by pixel, in exact fractions of a pixel: which tiles hold the centre, at which coordinates."""
    result = np.zeros(out)
    ph, pw = tiling.patch_shape
    for i in range(out[0]):
        for j in range(out[1]):
            total = weights = 0.0
            for n, (r, c) in enumerate((r, c) for r in tiling.rows for c in tiling.cols):
                # (2 i + 1) H / (2 out) - r in [0, P), compared in integers.
                y, x = (2 * i + 1) * tiling.height - 2 * out[0] * r, (2 * j + 1) * tiling.width - 2 * out[1] * c
                if 0 <= y < 2 * out[0] * ph and 0 <= x < 2 * out[1] * pw:
                    v, u = 2 * y / (2 * out[0] * ph) - 1, 2 * x / (2 * out[1] * pw) - 1
                    # The Hann window, with the small floor that decides on a tile's very border.
                    weight = (np.cos(np.pi * v / 2) ** 2 + 1e-6) * (np.cos(np.pi * u / 2) ** 2 + 1e-6)
                    total, weights = total + weight * functions[n](v, u), weights + weight
            result[i, j] = total / weights
    return result


OUTPUTS = [(1.0, 1.0), (2.0, 2.0), (3.0, 1.0), (0.5, 0.5), (1.37, 0.71), (0.1, 2.3)]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 3), (10, 7), (12, 8)])
@pytest.mark.parametrize(("patch", "stride"), [(4, 4), (4, 3), (4, 2), (5, 1), (None, None)])
@pytest.mark.parametrize(("down", "across"), OUTPUTS)
def test_query_against_the_oracle(
    height: int, width: int, patch: int | None, stride: int | None, down: float, across: float
) -> None:
    tiling = Tiling(height, width, patch, stride)
    out = (max(1, round(height * down)), max(1, round(width * across)))
    query = tiling.query(*out)
    coords = query.coords
    assert coords.abs().max() <= 1
    each = coords.double().expand(len(tiling), *coords.shape[-2:])
    numbers = torch.arange(len(tiling), dtype=torch.float64)[:, None]
    values = torch.sin(3 * each[..., 0] + numbers) + torch.cos(2 * each[..., 1] - numbers)
    assembled = query.assemble(values.float()[..., None])
    functions = [lambda v, u, n=n: np.sin(3 * v + n) + np.cos(2 * u - n) for n in range(len(tiling))]
    assert assembled.shape == (*out, 1)
    np.testing.assert_allclose(assembled[..., 0].numpy(), oracle(tiling, out, functions), atol=2e-5)


@pytest.mark.parametrize(
    ("scale", "shared"), [(1, True), (2, True), (3, True), (0.5, True), (1.5, True), (1.25, False)]
)
def test_lattice_is_shared_where_positions_coincide(scale: float, shared: bool) -> None:
    # Stride 2: tiles begin at whole output pixels iff 2 * scale is a whole number.
    query = Tiling(8, 8, patch=4, stride=2).query(round(8 * scale), round(8 * scale))
    assert query.coords.ndim == (2 if shared else 3)


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_shared_lattice_is_that_of_a_finer_patch(scale: int) -> None:
    coords = Tiling(9, 13, patch=4, stride=3).query(9 * scale, 13 * scale).coords
    axis = [-1 + (2 * i + 1) / (4 * scale) for i in range(4 * scale)]
    expected = torch.tensor([[y, x] for y in axis for x in axis])
    torch.testing.assert_close(coords, expected)


@pytest.mark.parametrize("size", [(9, 13), (18, 26), (10, 11), (3, 4), (1, 1), (100, 7)])
def test_partition_of_unity(size: tuple[int, int]) -> None:
    tiling = Tiling(9, 13, patch=4, stride=3)
    query = tiling.query(*size)
    ones = torch.ones(len(tiling), query.coords.shape[-2], 3)
    torch.testing.assert_close(query.assemble(ones), torch.ones(*size, 3))


def test_blend_is_smooth_at_the_seams() -> None:
    # Two tiles that disagree by 1: the blend rises without a jump of more than a few percent a pixel.
    tiling = Tiling(64, 96, patch=64, stride=32)
    values = torch.arange(2.0)[:, None, None].expand(2, 64 * 64, 1)
    row = tiling.assemble(values)[0, :, 0]
    assert row[:32].eq(0).all() and row[-32:].sub(1).abs().max() < 1e-6
    assert row.diff().max() < 0.06 and row.diff().min() >= 0


def test_assemble_is_differentiable() -> None:
    query = Tiling(3, 4, patch=2, stride=1).query(4, 5)
    shape = (6, query.coords.shape[-2], 1)
    values = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    query.assemble(values).sum().backward()
    # Weights sum to 1 for each of the 4 x 5 output pixels.
    assert values.grad is not None and values.grad.sum().item() == pytest.approx(20, abs=1e-5)


def test_read_only_numpy_images_are_split() -> None:
    image = np.zeros((4, 4, 1), np.float32)
    image.flags.writeable = False
    assert Tiling(4, 4, 2).split(image).shape == (4, 4, 1)


@pytest.mark.parametrize("arguments", [(0, 4, 2, 2), (4, 4, 2, 3), (4, 4, 0, 1), (4, 4, 2, 0)])
def test_impossible_tilings(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="no tiling"):
        Tiling(*arguments)


def test_an_image_of_another_size() -> None:
    with pytest.raises(ValueError, match="tiling of"):
        Tiling(4, 4, 2).split(torch.zeros(4, 5, 1))


def test_an_output_without_pixels_is_refused() -> None:
    with pytest.raises(UserError, match="output resolution: found 0x4 pixels"):
        Tiling(4, 4, 2).query(0, 4)
