"""What a training needs of a task: a model for its signals, the signals in batches, and how well they are fitted."""

from collections.abc import Mapping, Sequence, Sized
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Float32
from numpy import ndarray
from torch import Tensor

from nid_dist.config.schema import Config, Training
from nid_dist.data.splits import Split
from nid_dist.model import Model
from nid_dist.parallel.exchange.exchange import Exchange
from nid_dist.parallel.world import World
from nid_dist.tasks.batch import Batch

Picture = Float32[ndarray, "H W d"]
"""Values in [0, 1], grey (d = 1) or rgb."""


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
    def own_coordinates(self) -> bool:
        """Whether each signal is measured at coordinates of its own, which its batch brings."""
        ...

    @property
    def signals(self) -> Sized:
        """The training signals."""
        ...

    def model(self, exchange: Exchange | None = None) -> Model:
        """A new model for these signals, all its values from the seed.

        Args:
            exchange: how codes reach the experts; all experts here by default.

        Returns:
            The model.
        """
        ...

    def batch(self, step: int, micro: int, world: World) -> Batch:
        """This rank's part of a micro-batch, which depends on (seed, step, micro) only.

        Args:
            step: counted from 0.
            micro: of the step's micro-batches.
            world: the ranks that share it.

        Returns:
            Signals, one of weight 0 where there is none for this rank.

        Raises:
            UserError: when a signal cannot be read.
        """
        ...

    def prefetch(self, step: int, world: World) -> None:
        """Start to read this rank's signals of a step in the background."""
        ...

    def sample(self, count: int) -> Float[Tensor, "S C d"]:
        """At most `count` training signals on the grid, for data-dependent initial values."""
        ...

    def evaluate(self, model: Model, world: World) -> dict[str, float]:
        """How well a few signals are fitted that are not trained on, by method; never those of `test`.

        Args:
            model: as trained so far, with all its experts.
            world: the ranks that share the work.

        Returns:
            Figures, "val/..." or "train/..." (see `split_to_evaluate`).
        """
        ...

    def pictures(self, model: Model) -> dict[str, Picture]:
        """One of these signals beside its fit, by name."""
        ...


def own_part(training: Training, accumulation: int, micro: int, world: World) -> tuple[slice, float]:
    """Where a rank's part of a micro-batch lies in the batch, and its weight.

    Args:
        training: with the size of the batch.
        accumulation: micro-batches of a batch.
        micro: which of them.
        world: the ranks that share it.

    Returns:
        At least one signal; and a weight such that the mean over ranks of weighted means over signals is the mean over
        the micro-batch. It is 0 where there is no signal for this rank.
    """
    size = training.batch // accumulation
    part = world.local_slice(size)
    weight = (part.stop - part.start) * world.size / size
    first = min(part.start, size - 1)
    return slice(micro * size + first, micro * size + max(part.stop, first + 1)), weight


def split_to_evaluate(splits: Mapping[Split, Sequence[object]]) -> Split:
    """`val`, or `train` where nothing is kept for validation; never `test`."""
    return "val" if splits["val"] else "train"
