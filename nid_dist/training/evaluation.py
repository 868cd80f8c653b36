"""What a training run measures of itself, on images that it does not train on."""

import numpy as np
import torch

from nid_dist.coding.fitting import Method
from nid_dist.data.splits import Split
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.pictures import error_map
from nid_dist.model import Model
from nid_dist.tasks.images import ImageTask, fit_image

_IMAGES = 4


def methods_of(model: Model, blocks: int) -> list[Method]:
    """The methods that a running training is measured by."""
    methods = [Method("omp", blocks)]
    if model.gate is not None and model.config.coding.gate.kind != "codebook":
        methods = [Method("init"), Method("ridge"), *methods]
    return methods


def split_to_evaluate(task: ImageTask) -> Split:
    """`val`, or `train` where no image is kept for validation; never `test`."""
    return "val" if task.refs["val"] else "train"


def evaluate(model: Model, task: ImageTask) -> dict[str, float]:
    """Mean PSNR over a few images, by method.

    Args:
        model: as trained so far.
        task: its images.

    Returns:
        `val/db_omp` and so on, in dB ("train/..." where no image is kept for validation).
    """
    split = split_to_evaluate(task)
    methods = methods_of(model, task.config.coding.blocks)
    scores: dict[str, list[float]] = {method.label: [] for method in methods}
    for _, image in task.images(split, _IMAGES):
        for label, result in fit_image(model, image, methods).items():
            scores[label].append(psnr(result.render(model), image))
    return {f"{split}/db_{label}": float(np.mean(values)) for label, values in scores.items()}


def pictures(model: Model, task: ImageTask, atoms: torch.Tensor, usage: torch.Tensor) -> dict[str, np.ndarray]:
    """Pictures for TensorBoard: an image beside its reconstruction and error, and the most used atoms.

    Args:
        model: as trained so far.
        task: its images.
        atoms: all atoms on the model's lattice [n, C, d].
        usage: how often each expert was chosen [n].

    Returns:
        Arrays [H, W, d] by name.
    """
    split = split_to_evaluate(task)
    name, image = next(iter(task.images(split, 1)))
    method = Method("omp", task.config.coding.blocks)
    result = fit_image(model, image, [method])[method.label].render(model)
    error = error_map(result, image)
    error = np.broadcast_to(error.reshape(*error.shape[:2], -1).mean(2, keepdims=True), image.shape)
    side_by_side = np.concatenate([image, result, np.clip(8 * error, 0, 1)], 1)
    strongest = usage.argsort(descending=True)[:64]
    return {f"{split}/{name}": side_by_side, "experts/most_used": _sheet(atoms[strongest], model.grid)}


def _sheet(atoms: torch.Tensor, grid: tuple[int, int]) -> np.ndarray:
    scale = atoms.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)
    tiles = (0.5 + 0.5 * atoms / scale).unflatten(1, grid)
    rows = int(np.ceil(len(tiles) ** 0.5))
    padded = torch.nn.functional.pad(tiles, (0, 0, 0, 1, 0, 1), value=1.0)
    missing = rows * rows - len(tiles)
    padded = torch.cat([padded, padded.new_ones(missing, *padded.shape[1:])])
    sheet = padded.unflatten(0, (rows, rows)).permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)
    return sheet.numpy()
