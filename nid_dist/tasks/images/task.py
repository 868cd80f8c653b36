"""Image regression: images as signals, on a grid, whole or in patches."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from nid_dist.coding.method import Method
from nid_dist.config.schema import Config
from nid_dist.data.resident import Constant
from nid_dist.data.sampler import batch_ids, symmetries
from nid_dist.data.splits import Split
from nid_dist.device import to_device
from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.pictures import error_map
from nid_dist.model import Model
from nid_dist.parallel.exchange.exchange import Exchange
from nid_dist.parallel.world import World
from nid_dist.samples import Batch, Samples
from nid_dist.tasks.ahead import Ahead
from nid_dist.tasks.base import Draw, Picture, draw, grid_prior_samples, methods_of, split_to_evaluate
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.fit import ImageArray, fit_image
from nid_dist.tasks.images.preparation import prepare
from nid_dist.tasks.images.signals import ImageSignals
from nid_dist.tasks.images.sources import ImageRef, list_images

_IMAGES = 4  # that an evaluation fits
_STEPS = 4  # whose images are read ahead for a device, until it has them all
_SIDE = 512  # of the part of a larger image that it fits: an evaluation takes seconds, whatever the camera


class ImageTask:
    """The images of a configuration, or those given by split, kept apart as train, val and test.

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
        self._coords = Constant(self.signals.coords)
        self._ahead = Ahead(self._read, config.optimizer.accumulation, config.training.steps)

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
        chosen, device = draw(self.config, step, micro, world, len(self.signals)), world.device
        if self.signals.cut_on(device):
            values = self.signals.values(chosen.ids, self._turns(chosen), device)
        else:
            values = to_device(self._ahead.take(step, micro, world), device)
        return chosen.batch(Samples(self._coords.on(device), values))

    def prefetch(self, step: int, world: World) -> None:
        """Start to read this rank's images of a step in the background."""
        if not self.signals.cut_on(world.device):
            self._ahead.prefetch(step, world)
            return
        if self.signals.all_on(world.device):
            return
        steps = 1 if world.device.type == "cpu" else _STEPS
        for later, micro in product(range(step, step + steps), range(self.config.optimizer.accumulation)):
            self.signals.prefetch(draw(self.config, later, micro, world, len(self.signals)).ids, world.device)

    def _turns(self, chosen: Draw) -> Int[Tensor, "T"] | None:
        training = self.config.training
        return symmetries(training.seed, chosen.step, training.batch)[chosen.part] if self.section.augment else None

    def _read(self, step: int, micro: int, world: World) -> Float[Tensor, "T C d"]:
        chosen = draw(self.config, step, micro, world, len(self.signals))
        return self.signals.values(chosen.ids, self._turns(chosen))

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
        """Mean PSNR over a few images (the middle of large ones), by method: `val/db_omp` and so on, in dB.

        `val/mahalanobis` is how far they lie from the prior's mean, where there is one.
        """
        split = split_to_evaluate(self.refs)
        methods = methods_of(model, self.config.coding.blocks)
        labels = [f"db_{method.label}" for method in methods] + ["mahalanobis"] * (model.prior is not None)
        count = len(self.refs[split][:_IMAGES])
        scores = torch.zeros(count, len(labels), dtype=torch.float64)

        def measure() -> None:
            for index in range(world.rank, count, world.size):
                image = self._middle(prepared(self.refs[split][index], self.config))
                found = fit_image(model, image, methods)
                figures = {f"db_{label}": psnr(result.render(), image) for label, result in found.items()}
                figures["mahalanobis"] = model.mahalanobis(found[methods[-1].label].code) or 0.0
                scores[index] = torch.tensor([figures[label] for label in labels], dtype=torch.float64)

        world.raise_on_all_ranks(measure)
        mean = world.all_reduce_sum(scores).mean(0).tolist()
        return {f"{split}/{label}": value for label, value in zip(labels, mean, strict=True)}

    def pictures(self, model: Model) -> dict[str, Picture]:
        """An image (the middle of a large one) beside its reconstruction by OMP and the error."""
        split = split_to_evaluate(self.refs)
        name, whole = next(iter(self.images(split, 1)))
        image = self._middle(whole)
        method = Method("omp", self.config.coding.blocks)
        result = fit_image(model, image, [method])[method.label].render()
        # Eight times enlarged: what is white is off by 32 grey levels or more.
        error = np.clip(8 / 255 * error_map(result, image), 0, 1).astype(np.float32)
        return {f"{split}/{name}": np.concatenate([image, result, np.broadcast_to(error[..., None], image.shape)], 1)}

    def _middle(self, image: ImageArray) -> Float32[np.ndarray, "h w d"]:
        if self.section.patch is None:
            return image  # one signal, whose cost does not grow with its pixels
        height, width = image.shape[:2]
        top, left = max(0, height - _SIDE) // 2, max(0, width - _SIDE) // 2
        return image[top : top + _SIDE, left : left + _SIDE]


def prepared(ref: ImageRef, config: Config) -> ImageArray:
    """An image cropped and resized as the configuration says."""
    signals = config.signals_of(ImagesSection)
    return prepare(ref.load(), crop=signals.crop, short_side=signals.short_side, size=signals.size, name=ref.name)
