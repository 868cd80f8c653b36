"""How the dictionary and the networks represent an image in a comparison, and what of it is noted."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

import torch
from torch import Tensor

from nid_dist.baselines.inr import Baseline, Network
from nid_dist.coding.method import Method
from nid_dist.coding.solvers import LastPrepared
from nid_dist.comparison.outcome import Outcome
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.operations import image_operations, stored_numbers
from nid_dist.model import Model
from nid_dist.tasks.images.fit import ImageArray, fit_image

METHODS = (Method("init"), Method("adam", 5), Method("adam", 10), Method("ridge"), Method("omp", 32))
_WORDS = {"init": "init", "adam5": "+ 5 steps", "adam10": "+ 10 steps", "ridge": "ridge", "omp32": "OMP"}
_REPEATS = 3  # of what takes milliseconds

Line = Callable[[str, str, ImageArray], Iterator[Outcome]]
"""Makes the outcomes of an image, given its group, its name and its pixels."""


def by_dictionary(name: str, model: Model, *, whole: bool = False) -> Line:
    """All methods of a dictionary; the time is the median of a few, after one that does not count.

    What depends on the grid alone, and not on the image, is found once for all images and does not count either.

    Args:
        name: of the dictionary.
        model: trained.
        whole: an image is one signal, whatever the dictionary was trained on.

    Returns:
        Makes the outcomes of an image.
    """
    methods = [method for method in METHODS if model.gate_reads_signals or not method.needs_gate]
    prepared = LastPrepared(model.dictionary)
    shared = sum(parameter.numel() for parameter in model.dictionary.parameters())

    def outcomes(group: str, image_name: str, image: ImageArray) -> Iterator[Outcome]:
        rounds = [fit_image(model, image, methods, prepared=prepared, whole=whole) for _ in range(1 + _REPEATS)]
        for method in methods:
            fits = [fits[method.label] for fits in rounds[1:]]
            tiling, code = fits[0].tiling, fits[0].code
            operations = image_operations(model, len(tiling), len(tiling.coords))
            yield Outcome(
                group,
                image_name,
                name,
                f"{name}, {_WORDS[method.label]}",
                image,
                fits[0].render(),
                median(fit.seconds for fit in fits),
                stored_numbers(code),
                shared,
                float(operations.decode + (operations.encode if method.needs_gate else 0)),
            )

    return outcomes


def by_network(
    baseline: Baseline, name: str, *, steps: Sequence[int] | None = None, seconds: float | None = None
) -> Line:
    """A network per image.

    Args:
        baseline: how a network is made and fitted.
        name: of the baseline.
        steps: after which numbers of steps the picture is shown; None: after all, or `seconds`.
        seconds: that a fit may take.

    Returns:
        Makes the outcomes of an image.
    """

    def outcomes(group: str, image_name: str, image: ImageArray) -> Iterator[Outcome]:
        height, width, channels = image.shape
        coords, values = coordinate_grid((height, width)), torch.from_numpy(image).reshape(-1, channels)

        def shown(flat: Tensor) -> ImageArray:
            picture: ImageArray = flat.detach().clamp(0, 1).reshape(image.shape).numpy()
            return picture

        def watch(network: Network) -> float:
            return psnr(shown(network(coords)), image)

        for count in steps or (None,):
            fitted = baseline.fit(coords, values, steps=count, max_seconds=seconds, watch=watch)
            yield Outcome(
                group,
                image_name,
                name,
                name if count is None else f"{name} + {count} steps",
                image,
                shown(fitted.render(coords)),
                fitted.seconds,
                fitted.parameters,
                0,
                float(fitted.macs_per_coordinate * height * width),
                fitted.trace,
            )

    return outcomes
