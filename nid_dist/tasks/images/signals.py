"""The training set: each patch (or whole image) of the training images is one signal."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.data.cache import ImageCache
from nid_dist.errors import UserError
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.preparation import prepare, prepared_shape
from nid_dist.tasks.images.sources import ImageRef


class ImageSignals:
    """Patches of images on a fixed stride grid, read when they are needed.

    The last patch of a row or column is shifted inwards, so that every pixel is seen and none is made up.

    Args:
        config: how they are prepared and cut; `patch: null` makes each whole image (`size` squared) one signal.

    Attributes:
        coords: [C, 2] the grid that all signals share.

    Raises:
        UserError: an image is smaller than a patch, or its size cannot be read.
    """

    def __init__(self, refs: Sequence[ImageRef], config: ImagesSection, *, channels: int) -> None:
        side = config.grid_shape[0]
        self._refs, self._config, self._channels, self._side = list(refs), config, channels, side
        self._stride = config.stride if config.patch is not None and config.stride is not None else side
        self._cache = ImageCache(config.cache_mb * 2**20)
        # One thread reads ahead; decoding releases the interpreter's lock.
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
        self.coords: Float[Tensor, "C 2"] = coordinate_grid((side, side))
        self.names = [ref.name for ref in self._refs]
        self._shapes = [self._measure(index) for index in range(len(self._refs))]
        counts = [self._steps(height) * self._steps(width) for height, width in self._shapes]
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        """Number of signals over all images."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def values(self, ids: Int[Tensor, " T"], symmetry: Int[Tensor, " T"] | None = None) -> Float[Tensor, "T C d"]:
        """Read signals: [T, C, d] values in [0, 1] on `coords`.

        Args:
            ids: [T] which signals, each in [0, len(self)).
            symmetry: [T] one of the square's symmetries for each, 0..7: bit 2 exchanges rows and columns, then bit 1
                reverses the rows and bit 0 the columns; None: as they are.

        Raises:
            UserError: an image cannot be read, or its file has changed.
            IndexError: an id out of range.
        """
        side = self._side
        out = np.empty((len(ids), side, side, self._channels), dtype=np.float32)
        turns = [0] * len(ids) if symmetry is None else symmetry.tolist()
        places = [self._place(signal) for signal in ids.tolist()]
        # Image by image, so that even a batch larger than the cache reads each image once.
        order = sorted(range(len(places)), key=lambda position: places[position][0])
        for index, positions in groupby(order, key=lambda position: places[position][0]):
            image = self.image(index)
            for position in positions:
                _, row, col = places[position]
                out[position] = _turned(image[row : row + side, col : col + side], turns[position])
        return torch.from_numpy(out.reshape(len(ids), side * side, self._channels))

    def image(self, index: int) -> Float[np.ndarray, "H W d"]:
        """Read the prepared image `names[index]`: [H, W, d] float32 in [0, 1], read-only.

        Raises:
            UserError: it cannot be read, or its file has changed.
        """
        image = self._read(index)
        if image.shape[:2] != self._shapes[index]:
            raise UserError(
                self.names[index],
                found=f"{image.shape[0]}x{image.shape[1]} pixels",
                expected="{}x{} pixels, as at the start".format(*self._shapes[index]),
                hint="do not change the images during a run",
            )
        return image

    def prefetch(self, ids: Int[Tensor, " T"]) -> None:
        """Start to read the images of signals in the background, e.g. those of the next step.

        Errors are kept silent here: `values` meets them again.
        """
        for index in sorted({self._place(signal)[0] for signal in ids.tolist()}):
            if index not in self._cache:
                self._ahead.submit(self._read, index)

    def _read(self, index: int) -> np.ndarray:
        return self._cache.get(index, lambda: self._load(index))

    def _load(self, index: int) -> np.ndarray:
        image = self._refs[index].load()
        if image.ndim != 3 or image.shape[2] != self._channels:
            raise ValueError(f"{self.names[index]}: shape {image.shape}, expected [H, W, {self._channels}]")
        c = self._config
        # A copy of what prepare() hands through, since the cache makes it read-only and counts its bytes.
        prepared = prepare(image, crop=c.crop, short_side=c.short_side, size=c.size, name=self.names[index])
        return prepared.copy() if np.may_share_memory(prepared, image) else prepared

    def _measure(self, index: int) -> tuple[int, int]:
        """Size of a prepared image: known, or from the header, or by decoding it."""
        ref, c = self._refs[index], self._config
        if c.size is not None:
            height = width = c.size
        elif ref.size is not None:
            height, width = prepared_shape(*ref.size(), crop=c.crop, short_side=c.short_side, name=ref.name)
        else:
            height, width = self._read(index).shape[:2]
        if min(height, width) < self._side:
            raise UserError(
                ref.name,
                found=f"{height}x{width} pixels",
                expected=f"at least signals.patch {self._side} on each side",
                hint="choose a smaller signals.patch, set signals.short_side, or remove the image",
            )
        return height, width

    def _steps(self, length: int) -> int:
        """Patches along an axis; where the stride does not divide, the last one is shifted inwards."""
        return -(-(length - self._side) // self._stride) + 1

    def _place(self, signal: int) -> tuple[int, int, int]:
        """Image, first row and first column of a signal."""
        if not 0 <= signal < len(self):
            raise IndexError(f"signal {signal} of {len(self)}")
        index = int(np.searchsorted(self._ends, signal, side="right"))
        height, width = self._shapes[index]
        row, col = divmod(signal - (int(self._ends[index - 1]) if index else 0), self._steps(width))
        return index, min(row * self._stride, height - self._side), min(col * self._stride, width - self._side)


def _turned(patch: Shaped[np.ndarray, "P P d"], symmetry: int) -> Shaped[np.ndarray, "P P d"]:
    if symmetry & 4:
        patch = patch.swapaxes(0, 1)
    return patch[:: -1 if symmetry & 2 else 1, :: -1 if symmetry & 1 else 1]
