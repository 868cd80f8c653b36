"""Image regression: images as signals, on a lattice, whole or in patches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from skimage.transform import resize
from torch import Tensor

from nid_dist.coding.fitting import Fit, Method, fit_signals
from nid_dist.config.schema import Config
from nid_dist.data.preparation import prepare
from nid_dist.data.sampler import batch_ids, coordinate_subset, symmetries
from nid_dist.data.signals import ImageSignals
from nid_dist.data.sources import ImageRef, list_images
from nid_dist.data.splits import Split
from nid_dist.data.tiling import Tiling
from nid_dist.model import Model
from nid_dist.training.losses import Batch

_VALUES = 2**26  # features evaluated at a time: 256 MiB

ImageArray = Float32[np.ndarray, "H W d"]


@dataclass(frozen=True)
class ImageFit:
    """An image as a method represents it.

    Args:
        fit: codes of its signals.
        tiling: where the signals lie in the image.
    """

    fit: Fit
    tiling: Tiling

    @torch.no_grad()
    def render(self, model: Model, height: int | None = None, width: int | None = None) -> ImageArray:
        """Evaluate f at any resolution.

        Args:
            model: the one that was fitted.
            height: rows; None: the image's own.
            width: columns; None: the image's own.

        Returns:
            The image, clipped to [0, 1].
        """
        code, parts = self.fit.solution.code, []
        query = self.tiling.query(height or self.tiling.height, width or self.tiling.width)
        step = max(1, _VALUES // (query.coords.shape[-2] * model.dictionary.trunk.out_dim))
        for first in range(0, code.signals, step):
            part = slice(first, first + step)
            coords = query.coords if query.coords.dim() == 2 else query.coords[part]
            parts.append(model.dictionary(code.rows(part), coords))
        return query.assemble(torch.cat(parts)).clamp(0, 1).numpy()


class ImageTask:
    """The images of a configuration, kept apart as train, val and test.

    Args:
        config: the whole configuration.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.channels = 3 if config.signals.colour == "rgb" else 1
        self.refs = list_images(config.signals)
        self.signals = ImageSignals(self.refs["train"], config.signals, channels=self.channels)
        side = config.signals.patch or config.signals.size
        assert side is not None
        self.grid = (side, side)

    def model(self) -> Model:
        """A new model for these images, all its values from the seed."""
        return Model(self.config, channels=self.channels, grid=self.grid, signals=len(self.signals))

    def batch(self, step: int, micro: int) -> Batch:
        """The signals of a micro-batch, which depend on (seed, step, micro) only."""
        training, signals = self.config.training, self.config.signals
        size = training.batch // self.config.optimizer.accumulation
        part = slice(micro * size, (micro + 1) * size)
        ids = batch_ids(training.seed, step, training.batch, len(self.signals))[part]
        turns = symmetries(training.seed, step, training.batch)[part] if signals.augment else None
        subset = None
        if training.coordinates is not None and training.coordinates < len(self.signals.coords):
            subset = coordinate_subset(training.seed, step, len(self.signals.coords), training.coordinates)
        generator = torch.Generator().manual_seed((training.seed * 1_000_003 + step) * 1_009 + micro)
        return Batch(self.signals.values(ids, turns), ids, subset, generator)

    def sample(self, count: int) -> Float[Tensor, "S C d"]:
        """Training signals for data-dependent initial values."""
        ids = batch_ids(self.config.training.seed, 0, min(count, len(self.signals)), len(self.signals))
        return self.signals.values(ids, None)

    def images(self, split: Split, limit: int | None = None) -> Iterator[tuple[str, ImageArray]]:
        """The prepared images of a split, by name."""
        for ref in self.refs[split][:limit]:
            yield ref.name, prepared(ref, self.config)


def prepared(ref: ImageRef, config: Config) -> ImageArray:
    """An image cropped and resized as the configuration says."""
    signals = config.signals
    return prepare(ref.load(), crop=signals.crop, short_side=signals.short_side, size=signals.size)


def fit_image(
    model: Model, image: ImageArray, methods: Sequence[Method], stride: int | None = None
) -> dict[str, ImageFit]:
    """Represent an image of any size by each method.

    Args:
        model: trained on patches, or on whole images.
        image: in [0, 1].
        methods: which.
        stride: step between patches; None: no overlap. Overlapping patches are blended.

    Returns:
        Codes by the methods' labels, to be rendered.
    """
    patch = model.config.signals.patch
    tiling = Tiling(*image.shape[:2], patch, stride or patch)
    values = tiling.split(image)
    coords, seen = None, None
    if patch is None and image.shape[:2] != model.grid:
        # A whole image of another size than the gate's lattice: solvers use all its pixels, the gate a resized copy.
        coords = tiling.coords
        resized = resize(image, model.grid, order=1, anti_aliasing=True).astype(np.float32)
        seen = torch.from_numpy(resized).reshape(1, -1, image.shape[2])
    fits = fit_signals(model, values, coords, methods, seen)
    return {label: ImageFit(fit, tiling) for label, fit in fits.items()}
