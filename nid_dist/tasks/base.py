"""What a training needs of a task: a model for its signals, the signals in batches, and how well they are fitted."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from numpy import ndarray
from torch import Tensor

from nid_dist.coding.method import Method
from nid_dist.config.schema import Config
from nid_dist.data.sampler import batch_ids, coordinate_subset
from nid_dist.data.splits import Split
from nid_dist.device import to_device
from nid_dist.model import Model
from nid_dist.parallel.exchange.exchange import Exchange
from nid_dist.parallel.world import World
from nid_dist.samples import Batch, Samples

Picture = Float32[ndarray, "H W d"]
"""Values in [0, 1], grey (d = 1) or rgb."""

_FLOATS = 2**25  # of the sample that a prior is learned from


@runtime_checkable
class Task(Protocol):
    """The signals of a configuration, kept apart as train, val and test."""

    @property
    def config(self) -> Config:
        """The whole configuration."""
        ...

    @property
    def channels(self) -> int:
        """d."""
        ...

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """Shape of the grid of dense values, (H, W) for images."""
        ...

    @property
    def signals(self) -> Sized:
        """The training signals."""
        ...

    def model(self, exchange: Exchange | None = None) -> Model:
        """A new model for these signals, all its values from the seed; without an exchange all experts are here."""
        ...

    def batch(self, step: int, micro: int, world: World) -> Batch:
        """This rank's part of a micro-batch, which depends on (seed, step, micro) only; steps count from 0.

        It is on the world's device, which has not been waited for, and so is what its `make_gate_input` makes; its
        tensors have the same shapes in every step. Where there is no signal for this rank, it is one of weight 0.

        Raises:
            UserError: when a signal cannot be read.
        """
        ...

    def prefetch(self, step: int, world: World) -> None:
        """Start to read this rank's signals of a step in the background."""
        ...

    def sample(self, count: int) -> Samples:
        """At most `count` training signals on the grid, for data-dependent initial values."""
        ...

    def prior_samples(self, count: int, world: World) -> Iterator[tuple[Samples, int]]:
        """This rank's part of about `count` training signals, from whose codes the prior is learned.

        All ranks get as many samples; with each comes how many of its first signals count.
        """
        ...

    def evaluate(self, model: Model, world: World) -> dict[str, float]:
        """How well a few signals are fitted that are not trained on, by method; never those of `test`.

        The model is as trained so far, with all its experts. Figures are "val/..." or "train/..." (see
        `split_to_evaluate`).
        """
        ...

    def pictures(self, model: Model) -> dict[str, Picture]:
        """One of these signals beside its fit, by name."""
        ...


@dataclass(frozen=True)
class Draw:
    """The signals of this rank's part of a micro-batch, which depend on (seed, step, micro) only; at least one."""

    config: Config
    step: int
    part: slice  # of the step's batch
    ids: Int[Tensor, "T"]
    noise_seeds: Int[Tensor, "T"]
    weight: float  # see `Batch`

    def coordinates(self, total: int) -> Int[Tensor, "c"] | None:
        """Which of so many coordinates the step draws, where the signals share them; None: all."""
        training, count = self.config.training, self.config.training.coordinates
        if count is None or count >= total:
            return None
        return coordinate_subset(training.seed, self.step, total, count)

    def batch(self, samples: Samples, make_gate_input: Callable[[], Float[Tensor, "T G c"]] | None = None) -> Batch:
        """The batch of what was measured of the signals, on the coordinates that the step draws where they share them.

        A gate sees all of the values, unless something else is made for it.
        """
        chosen = self.coordinates(samples.coords.shape[-2]) if samples.shared else None
        if chosen is not None:
            values = samples.values
            make_gate_input = make_gate_input or (lambda: values)
            samples = samples.at(to_device(chosen, samples.device))
        return Batch(samples, to_device(self.ids, samples.device), self.noise_seeds, self.weight, make_gate_input)


def draw(config: Config, step: int, micro: int, world: World, signals: int) -> Draw:
    """Draw from so many training signals."""
    training = config.training
    size = training.batch // config.optimizer.accumulation
    own = world.local_slice(size)
    # The mean over ranks of weighted means over signals is the mean over the micro-batch.
    weight, first = (own.stop - own.start) * world.size / size, min(own.start, size - 1)
    part = slice(micro * size + first, micro * size + max(own.stop, first + 1))
    ids = batch_ids(training.seed, step, training.batch, signals)[part]
    noise = np.random.SeedSequence([training.seed, step]).generate_state(training.batch, np.uint32)[part]
    return Draw(config, step, part, ids, torch.from_numpy(noise.astype(np.int64)), weight)


def grid_prior_samples(task: Task, count: int, world: World) -> Iterator[tuple[Samples, int]]:
    """`prior_samples` of a task whose signals share the grid: `sample` in parts."""
    training, numbers = task.config.training, math.prod(task.grid_shape) * task.channels
    sample = world.raise_on_all_ranks(lambda: task.sample(max(2, min(count, _FLOATS // numbers))))
    own = sample.rows(world.local_slice(len(sample)))
    # No more signals at a time than a step has: messages between ranks have room for these.
    at_once = max(1, training.batch // task.config.optimizer.accumulation // world.size)
    for first in range(0, -(-len(sample) // world.size), at_once):
        part = own.rows(slice(first, first + at_once))
        yield part, len(part)


def split_to_evaluate(splits: Mapping[Split, Sequence[object]]) -> Split:
    """`val`, or `train` where nothing is kept for validation; never `test`."""
    return "val" if splits["val"] else "train"


def methods_of(model: Model, blocks: int) -> list[Method]:
    """The methods that a running training is measured by."""
    methods = [Method("omp", blocks)]
    return [Method("init"), Method("ridge"), *methods] if model.gate_reads_signals else methods
