"""What a training run measures of itself, on images that it does not train on."""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from nid_dist.coding.fitting import Method
from nid_dist.data.splits import Split
from nid_dist.evaluation.effective_rank import effective_rank
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.pictures import error_map
from nid_dist.model import Model
from nid_dist.parallel.world import World
from nid_dist.tasks.images import ImageArray, ImageTask, fit_image, prepared

_IMAGES = 4
_SIDE = 512  # of the part of a larger image that is fitted: an evaluation takes seconds, whatever the camera
_ATOMS = 2048  # whose rank is taken: its cost grows with the cube
_SHOWN = 64


def methods_of(model: Model, blocks: int) -> list[Method]:
    """The methods that a running training is measured by."""
    methods = [Method("omp", blocks)]
    return [Method("init"), Method("ridge"), *methods] if model.sees else methods


def split_to_evaluate(task: ImageTask) -> Split:
    """`val`, or `train` where no image is kept for validation; never `test`."""
    return "val" if task.refs["val"] else "train"


def evaluate(model: Model, task: ImageTask, world: World) -> dict[str, float]:
    """Mean PSNR over a few images (the middle of large ones), by method.

    Args:
        model: as trained so far, with all its experts.
        task: its images.
        world: the ranks that share the work.

    Returns:
        `val/db_omp` and so on, in dB ("train/..." where no image is kept for validation).
    """
    split = split_to_evaluate(task)
    methods = methods_of(model, task.config.coding.blocks)
    labels = [method.label for method in methods]
    count = len(task.refs[split][:_IMAGES])
    scores = torch.zeros(count, len(labels), dtype=torch.float64)

    def measure() -> None:
        for index in range(world.rank, count, world.size):
            image = _middle(prepared(task.refs[split][index], task.config), task)
            for column, result in enumerate(fit_image(model, image, methods).values()):
                scores[index, column] = psnr(result.render(model), image)

    world.together(measure)
    mean = world.total(scores).mean(0).tolist()
    return {f"{split}/db_{label}": value for label, value in zip(labels, mean, strict=True)}


@torch.no_grad()
def atoms_rank(model: Model) -> float:
    """Effective rank of the atoms without their means: it falls when a dictionary collapses.

    Args:
        model: as trained so far.

    Returns:
        The rank of all atoms, or of 2048 evenly chosen ones where there are more.
    """
    count = model.dictionary.size
    chosen = torch.arange(min(count, _ATOMS)) * count // min(count, _ATOMS)
    atoms = _atoms(model, chosen)
    return effective_rank((atoms - atoms.mean(1, keepdim=True)).flatten(1))


def pictures(model: Model, task: ImageTask, usage: Int[Tensor, "n"]) -> dict[str, ImageArray]:
    """Pictures for TensorBoard: an image beside its reconstruction and error, and the most used atoms.

    Args:
        model: as trained so far.
        task: its images.
        usage: how often each expert was chosen.

    Returns:
        Pictures by name.
    """
    split = split_to_evaluate(task)
    name, whole = next(iter(task.images(split, 1)))
    image = _middle(whole, task)
    method = Method("omp", task.config.coding.blocks)
    result = fit_image(model, image, [method])[method.label].render(model)
    # Eight times enlarged: what is white is off by 32 grey levels or more.
    error = np.clip(8 / 255 * error_map(result, image), 0, 1).astype(np.float32)
    side_by_side = np.concatenate([image, result, np.broadcast_to(error[..., None], image.shape)], 1)
    strongest = usage.argsort(descending=True)[:_SHOWN]
    return {f"{split}/{name}": side_by_side, "experts/most_used": _sheet(_atoms(model, strongest), model.grid)}


def _middle(image: ImageArray, task: ImageTask) -> Float32[np.ndarray, "h w d"]:
    if task.config.signals.patch is None:
        return image  # one signal, whose cost does not grow with its pixels
    height, width = image.shape[:2]
    top, left = max(0, height - _SIDE) // 2, max(0, width - _SIDE) // 2
    return image[top : top + _SIDE, left : left + _SIDE]


@torch.no_grad()
def _atoms(model: Model, chosen: Int[Tensor, "U"]) -> Float[Tensor, "U C d"]:
    experts = model.dictionary.experts
    return experts.evaluate(model.dictionary.trunk(model.coords), [tensor[chosen] for tensor in experts.tensors])


def _sheet(atoms: Float[Tensor, "U C d"], grid: tuple[int, int]) -> ImageArray:
    scale = atoms.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)
    tiles = (0.5 + 0.5 * atoms / scale).unflatten(1, grid)
    rows = int(np.ceil(len(tiles) ** 0.5))
    padded = torch.nn.functional.pad(tiles, (0, 0, 0, 1, 0, 1), value=1.0)
    missing = rows * rows - len(tiles)
    padded = torch.cat([padded, padded.new_ones(missing, *padded.shape[1:])])
    sheet = padded.unflatten(0, (rows, rows)).permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)
    return sheet.numpy()
