"""The training set: each patch (or whole image) of the training images is one signal."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.data.cache import ImageCache
from nid_dist.data.resident import Constant, Resident, Residents
from nid_dist.device import to_device
from nid_dist.errors import UserError
from nid_dist.tasks.ahead import threads_for
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.preparation import prepare, prepared_shape
from nid_dist.tasks.images.sources import ImageRef

_CPU = torch.device("cpu")


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
        # Threads read ahead; decoding releases the interpreter's lock.
        self._ahead: ThreadPoolExecutor | None = None
        self._coming: set[int] = set()
        self.coords: Float[Tensor, "C 2"] = coordinate_grid((side, side))
        self._turns = Constant(_turned_pixels(side))
        self.names = [ref.name for ref in self._refs]
        self._shapes = [self._measure(index) for index in range(len(self._refs))]
        self._sizes: Int[np.ndarray, "images 2"] = np.array(self._shapes, np.int64).reshape(-1, 2)
        counts = self._steps(self._sizes[:, 0]) * self._steps(self._sizes[:, 1])
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts
        self._residents = Residents(self._sizes.prod(1).tolist(), channels, self.image)

    def __len__(self) -> int:
        """Number of signals over all images."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def values(
        self, ids: Int[Tensor, " T"], symmetry: Int[Tensor, " T"] | None = None, device: torch.device = _CPU
    ) -> Float[Tensor, "T C d"]:
        """Read signals: [T, C, d] values in [0, 1] on `coords`, on a device.

        Another device than the CPU keeps the images, where it has room for all, and cuts and turns them itself.

        Args:
            ids: [T] which signals, each in [0, len(self)).
            symmetry: [T] one of the square's symmetries for each, 0..7: bit 2 exchanges rows and columns, then bit 1
                reverses the rows and bit 0 the columns; None: as they are.

        Raises:
            UserError: an image cannot be read, or its file has changed.
            IndexError: an id out of range.
        """
        places = self._places(ids.numpy())
        turns = np.zeros(len(ids), np.int64) if symmetry is None else symmetry.numpy()
        resident = self._residents.on(device)
        if resident is not None and resident.require(places[0]):
            return self._cut(resident, places, turns, device)
        return to_device(self._read_values(places, turns), device)

    def cut_on(self, device: torch.device) -> bool:
        """Whether signals are cut where they are to be: on the CPU, and on a device with room for all images."""
        return device.type == "cpu" or self._residents.on(device) is not None

    def _cut(
        self, resident: Resident, places: Int[np.ndarray, "3 T"], turns: Int[np.ndarray, "T"], device: torch.device
    ) -> Float[Tensor, "T C d"]:
        images, rows, columns = places
        widths = self._sizes[images, 1]
        first = resident.starts(images) + rows * widths + columns
        first, widths, turned = to_device(torch.from_numpy(np.stack([first, widths, turns])), device)[:, :, None]
        row, column = self._turns.on(device)[:, turned[:, 0]]
        return resident.rows(first + widths * row + column)

    def _read_values(self, places: Int[np.ndarray, "3 T"], turns: Int[np.ndarray, "T"]) -> Float[Tensor, "T C d"]:
        side, count = self._side, places.shape[1]
        out = np.empty((count, side, side, self._channels), dtype=np.float32)
        # Image by image, so that even a batch larger than the cache reads each image once.
        order = np.argsort(places[0], kind="stable").tolist()
        images, rows, columns = places.tolist()
        for index, positions in groupby(order, key=lambda position: images[position]):
            image = self.image(index)
            for position in positions:
                row, col = rows[position], columns[position]
                out[position] = _turned(image[row : row + side, col : col + side], int(turns[position]))
        return torch.from_numpy(out.reshape(count, side * side, self._channels))

    def all_on(self, device: torch.device) -> bool:
        """Whether a device has all images, so that none is to be read."""
        resident = self._residents.on(device)
        return resident is not None and resident.complete

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

    def prefetch(self, ids: Int[Tensor, " T"], device: torch.device = _CPU) -> None:
        """Start to read the images of signals in the background, e.g. those of the next step.

        Errors are kept silent here: `values` meets them again.
        """
        images, resident = self._places(ids.numpy())[0], self._residents.on(device)
        wanted = set((images if resident is None else resident.missing(images)).tolist())
        if self._ahead is None:
            self._ahead = ThreadPoolExecutor(threads_for(device), thread_name_prefix="read-ahead")
        for index in sorted(wanted - self._coming):
            if index not in self._cache:
                self._coming.add(index)
                self._ahead.submit(self._read, index).add_done_callback(partial(self._arrived, index))

    def _arrived(self, index: int, _: object) -> None:
        self._coming.discard(index)

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

    def _steps(self, length: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """Patches along an axis; where the stride does not divide, the last one is shifted inwards."""
        return -(-(length - self._side) // self._stride) + 1

    def _places(self, signals: Int[np.ndarray, "T"]) -> Int[np.ndarray, "3 T"]:
        """Image, first row and first column of signals."""
        outside = (signals < 0) | (signals >= len(self))
        if outside.any():
            raise IndexError(f"signal {signals[outside][0]} of {len(self)}")
        index = np.searchsorted(self._ends, signals, side="right")
        height, width = self._sizes[index].T
        row, col = np.divmod(signals - self._starts[index], self._steps(width))
        return np.stack(
            [
                index,
                np.minimum(row * self._stride, height - self._side),
                np.minimum(col * self._stride, width - self._side),
            ]
        )


def _turned(patch: Shaped[np.ndarray, "P P d"], symmetry: int) -> Shaped[np.ndarray, "P P d"]:
    if symmetry & 4:
        patch = patch.swapaxes(0, 1)
    return patch[:: -1 if symmetry & 2 else 1, :: -1 if symmetry & 1 else 1]


def _turned_pixels(side: int) -> Int[Tensor, "2 8 C"]:
    """Row and column in a patch of each pixel of the patch turned by each symmetry."""
    pixels = np.indices((side, side)).transpose(1, 2, 0)
    turned = np.stack([_turned(pixels, symmetry) for symmetry in range(8)])
    return torch.from_numpy(np.ascontiguousarray(turned.reshape(8, -1, 2).transpose(2, 0, 1)))
