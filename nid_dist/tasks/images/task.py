"""Image regression: images as signals, on a grid, whole or in patches."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from skimage.transform import resize

from nid_dist.coding.solvers import LastPrepared
from nid_dist.config.schema import Config
from nid_dist.data.sampler import batch_ids, symmetries
from nid_dist.data.splits import Split
from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.pictures import error_map
from nid_dist.fitting import Fit, Method, fit_signals
from nid_dist.model import Model
from nid_dist.parallel.exchange.exchange import Exchange
from nid_dist.parallel.world import World
from nid_dist.samples import Batch, Samples
from nid_dist.tasks.base import Picture, draw, grid_prior_samples, split_to_evaluate
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.preparation import prepare
from nid_dist.tasks.images.signals import ImageSignals
from nid_dist.tasks.images.sources import ImageRef, list_images
from nid_dist.tasks.images.tiling import Tiling

_NUMBERS = 2**26  # of features evaluated at a time: 256 MiB
_IMAGES = 4  # that an evaluation fits
_SIDE = 512  # of the part of a larger image that it fits: an evaluation takes seconds, whatever the camera

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
        code, trunk = self.fit.solution.code, model.dictionary.trunk
        query = self.tiling.query(height or self.tiling.height, width or self.tiling.width)
        coords = query.coords
        count = coords.shape[-2]
        values = coords.new_empty(code.signals, count, model.channels)
        device = model.device
        # Coordinates that the signals share are evaluated once for all of a group.
        at_once = max(1, _NUMBERS // max(trunk.out_dim, trunk.encoding.out_dim))
        signals = max(1, at_once // count)
        for first, begin in itertools.product(range(0, code.signals, signals), range(0, count, at_once)):
            part, where = slice(first, first + signals), slice(begin, begin + at_once)
            here = coords[where] if coords.dim() == 2 else coords[part, where]
            values[part, where] = model.dictionary(code.rows(part), here.to(device)).cpu()
        # Channel by channel: blending copies what it blends a few times.
        picture = np.empty((query.rows.length, query.cols.length, model.channels), np.float32)
        for channel in range(model.channels):
            picture[..., channel] = query.assemble(values[..., channel, None])[..., 0].clamp(0, 1).numpy()
        return picture


class ImageTask:
    """The images of a configuration, kept apart as train, val and test.

    Args:
        config: the whole configuration.
        refs: the images by split; None: those that the configuration lists.

    Raises:
        UserError: when the images cannot be listed or measured, or do not fit the configuration.
    """

    def __init__(self, config: Config, refs: dict[Split, list[ImageRef]] | None = None) -> None:
        self.config = config
        self.section = section = config.signals_of(ImagesSection)
        if section.augment and config.coding.gate.kind == "codebook":
            raise UserError(
                "signals.augment",
                found="true with coding.gate.kind codebook",
                expected="false, as a row of a codebook is the code of one signal in one orientation",
                hint="set signals.augment to false, or choose another coding.gate.kind",
            )
        self.channels = section.channels
        self.refs = list_images(section) if refs is None else refs
        self.signals = ImageSignals(self.refs["train"], section, channels=self.channels)
        self.grid_shape = section.grid_shape

    def model(self, exchange: Exchange | None = None) -> Model:
        """A new model for these images, all its values from the seed."""
        return Model(
            self.config,
            channels=self.channels,
            grid_shape=self.grid_shape,
            signals=len(self.signals),
            exchange=exchange,
        )

    def batch(self, step: int, micro: int, world: World) -> Batch:
        """This rank's part of a micro-batch, which depends on (seed, step, micro) only."""
        chosen, training = draw(self.config, step, micro, world, len(self.signals)), self.config.training
        turns = symmetries(training.seed, step, training.batch)[chosen.part] if self.section.augment else None
        return chosen.batch(Samples(self.signals.coords, self.signals.values(chosen.ids, turns)))

    def prefetch(self, step: int, world: World) -> None:
        """Start to read this rank's images of a step in the background."""
        for micro in range(self.config.optimizer.accumulation):
            self.signals.prefetch(draw(self.config, step, micro, world, len(self.signals)).ids)

    def sample(self, count: int) -> Samples:
        """Training signals for data-dependent initial values."""
        ids = batch_ids(self.config.training.seed, 0, min(count, len(self.signals)), len(self.signals))
        return Samples(self.signals.coords, self.signals.values(ids, None))

    def prior_samples(self, count: int, world: World) -> Iterator[tuple[Samples, int]]:
        """This rank's part of training signals, from whose codes the prior is learned."""
        return grid_prior_samples(self, count, world)

    def images(self, split: Split, limit: int | None = None) -> Iterator[tuple[str, ImageArray]]:
        """The prepared images of a split, by name."""
        for ref in self.refs[split][:limit]:
            yield ref.name, prepared(ref, self.config)

    def evaluate(self, model: Model, world: World) -> dict[str, float]:
        """Mean PSNR over a few images (the middle of large ones), by method: `val/db_omp` and so on, in dB."""
        split = split_to_evaluate(self.refs)
        methods = methods_of(model, self.config.coding.blocks)
        labels = [method.label for method in methods]
        count = len(self.refs[split][:_IMAGES])
        scores = torch.zeros(count, len(labels), dtype=torch.float64)

        def measure() -> None:
            for index in range(world.rank, count, world.size):
                image = self._middle(prepared(self.refs[split][index], self.config))
                for column, result in enumerate(fit_image(model, image, methods).values()):
                    scores[index, column] = psnr(result.render(model), image)

        world.raise_on_all_ranks(measure)
        mean = world.all_reduce_sum(scores).mean(0).tolist()
        return {f"{split}/db_{label}": value for label, value in zip(labels, mean, strict=True)}

    def pictures(self, model: Model) -> dict[str, Picture]:
        """An image (the middle of a large one) beside its reconstruction by OMP and the error."""
        split = split_to_evaluate(self.refs)
        name, whole = next(iter(self.images(split, 1)))
        image = self._middle(whole)
        method = Method("omp", self.config.coding.blocks)
        result = fit_image(model, image, [method])[method.label].render(model)
        # Eight times enlarged: what is white is off by 32 grey levels or more.
        error = np.clip(8 / 255 * error_map(result, image), 0, 1).astype(np.float32)
        return {f"{split}/{name}": np.concatenate([image, result, np.broadcast_to(error[..., None], image.shape)], 1)}

    def _middle(self, image: ImageArray) -> Float32[np.ndarray, "h w d"]:
        if self.section.patch is None:
            return image  # one signal, whose cost does not grow with its pixels
        height, width = image.shape[:2]
        top, left = max(0, height - _SIDE) // 2, max(0, width - _SIDE) // 2
        return image[top : top + _SIDE, left : left + _SIDE]


def methods_of(model: Model, blocks: int) -> list[Method]:
    """The methods that a running training is measured by."""
    methods = [Method("omp", blocks)]
    return [Method("init"), Method("ridge"), *methods] if model.gate_reads_signals else methods


def prepared(ref: ImageRef, config: Config) -> ImageArray:
    """An image cropped and resized as the configuration says."""
    signals = config.signals_of(ImagesSection)
    return prepare(ref.load(), crop=signals.crop, short_side=signals.short_side, size=signals.size, name=ref.name)


def require_images(model: Model, name: str = "the dictionary") -> None:
    """Refuse a dictionary of other signals than images.

    Args:
        model: with the dictionary.
        name: what to call it.

    Raises:
        UserError: when it is one of another task.
    """
    model.config.signals_of(ImagesSection, name)


def require_channels(model: Model, image: ImageArray) -> None:
    """Refuse a grey image for a dictionary of colour, and the other way round.

    Args:
        model: with the dictionary.
        image: to be represented.

    Raises:
        UserError: when it has other channels.
    """
    if image.shape[2] != model.channels:
        colour = model.config.signals_of(ImagesSection).colour
        raise UserError(
            "the image",
            found=f"{image.shape[2]} channel(s)",
            expected=f"{model.channels}, as the dictionary's signals.colour is {colour}",
            hint=f"convert it (nid_dist.data.reading.to_colour(image, {colour!r}) does)",
        )


def fit_image(
    model: Model,
    image: ImageArray,
    methods: Sequence[Method],
    stride: int | None = None,
    prepared: LastPrepared | None = None,
    *,
    whole: bool = False,
) -> dict[str, ImageFit]:
    """Represent an image of any size by each method.

    Args:
        model: trained on patches, or on whole images.
        image: in [0, 1].
        methods: which.
        stride: step between patches; None: no overlap. Overlapping patches are blended.
        prepared: of the model's dictionary, where many images are to come.
        whole: one signal for the image, whatever the patches are that the dictionary was trained on.

    Returns:
        Codes by the methods' labels, to be rendered.

    Raises:
        UserError: when the image has other channels than the dictionary, or a method needs a gate that is not there.
    """
    require_images(model)
    require_channels(model, image)
    patch = None if whole else model.config.signals_of(ImagesSection).patch
    height, width = image.shape[:2]
    tiling = Tiling(height, width, patch, stride or patch)
    device = model.device
    values = tiling.split(image).to(device)
    coords, gate_input = None, None
    if patch is None and (height, width) != model.grid_shape:
        # A whole image of another size than the gate's grid: solvers use all its pixels, the gate a resized copy.
        coords = tiling.coords.to(device)
        resized = resize(image, model.grid_shape, order=1, mode="edge", anti_aliasing=True, preserve_range=True)
        gate_input = torch.from_numpy(resized.astype(np.float32)).reshape(1, -1, image.shape[2]).to(device)
    known = None if prepared is None else prepared.at(tiling.coords.to(device))
    fits = fit_signals(model, values, coords, methods, gate_input, prepared=known)
    return {label: ImageFit(fit, tiling) for label, fit in fits.items()}
