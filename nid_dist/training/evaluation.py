"""What a training run measures of its atoms, and what it shows."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.evaluation.effective_rank import effective_rank as rank_of
from nid_dist.model import Model
from nid_dist.parallel.world import World
from nid_dist.precision import products_in
from nid_dist.tasks.base import Picture, Task
from nid_dist.training.monitor import Monitor
from nid_dist.training.usage import ExpertUsage

_ATOMS = 2048  # whose rank is taken: its cost grows with the cube
_SHOWN = 64


def evaluate(
    model: Model, task: Task, usage: ExpertUsage, world: World, monitor: Monitor, step: int, *, with_pictures: bool
) -> dict[str, float]:
    """Measure a model in training, and write the figures: the task's, and how the experts are used since the last time.

    To be called on all ranks.
    """
    whole, counts = model.unsharded(), usage.counts()
    with products_in(model.config.training.precision, world.device):
        figures = task.evaluate(whole, world)
    figures["effective_rank"] = world.on_rank_zero(lambda: effective_rank(whole))
    figures |= usage.facts(counts)
    monitor.scalars(step, figures, event="eval")
    monitor.histogram(step, "experts/load", counts)
    if world.size > 1:
        monitor.histogram(step, "ranks/tokens", usage.tokens_by_rank(counts))
    if with_pictures and world.first:
        for name, picture in pictures(whole, task, counts).items():
            monitor.picture(step, name, picture)
    usage.reset()
    return figures


@torch.no_grad()
def effective_rank(model: Model) -> float:
    """Effective rank of the atoms without their means: it falls when a dictionary collapses.

    Where there are more than 2048, it is that of so many evenly chosen ones.
    """
    count = model.dictionary.num_experts
    chosen = torch.arange(min(count, _ATOMS), device=model.device) * count // min(count, _ATOMS)
    atoms = _atoms(model, chosen)
    return rank_of((atoms - atoms.mean(1, keepdim=True)).flatten(1))


def pictures(model: Model, task: Task, usage: Int[Tensor, "n"]) -> dict[str, Picture]:
    """Pictures for TensorBoard: the task's own, and the most used atoms."""
    strongest = usage.argsort(descending=True)[:_SHOWN]
    atoms = _atoms(model, strongest.to(model.device))
    return task.pictures(model) | {"experts/most_used": _sheet(atoms, model.grid_shape)}


@torch.no_grad()
def _atoms(model: Model, chosen: Int[Tensor, "U"]) -> Float[Tensor, "U C d"]:
    experts = model.dictionary.experts
    return experts.evaluate(model.dictionary.trunk(model.coords), [tensor[chosen] for tensor in experts.tensors])


def _sheet(atoms: Float[Tensor, "U C d"], grid: tuple[int, ...]) -> Picture:
    scale = atoms.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)
    tiles = (0.5 + 0.5 * atoms / scale).unflatten(1, grid)
    if tiles.dim() == 3:
        return tiles.cpu().numpy()  # along one axis: a row for each
    while tiles.dim() > 4:
        tiles = tiles[:, tiles.shape[1] // 2]  # of a grid with more axes the slice through the middle
    rows = int(np.ceil(len(tiles) ** 0.5))
    padded = torch.nn.functional.pad(tiles, (0, 0, 0, 1, 0, 1), value=1.0)
    missing = rows * rows - len(tiles)
    padded = torch.cat([padded, padded.new_ones(missing, *padded.shape[1:])])
    sheet = padded.unflatten(0, (rows, rows)).permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)
    return sheet.cpu().numpy()
