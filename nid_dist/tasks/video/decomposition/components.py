"""The components alpha_i(t) b_i of a video in their order, and which of them are the background."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.errors import UserError
from nid_dist.memory import floats_at_once
from nid_dist.model import Model
from nid_dist.tasks.video.task import VideoTask, frame_codes

PRESENT = 0.6
"""Share of the frames in which a component of the background is active."""

ACTIVE = 1 / 255
"""How much a component must change a pixel, as a root mean square, to count as active: one grey level of 256."""


_COPIES = 8  # of the frames that are worked on


def frame_chunks(
    task: VideoTask, frames: Sequence[int], device: torch.device, on_cpu: int = 2**21
) -> Iterator[list[int]]:
    """So many frames at a time that memory depends neither on their size nor on their number: `on_cpu` numbers there.

    On another device there are more (see `floats_at_once`).
    """
    height, width = task.grid_shape
    step = max(1, floats_at_once(device, _COPIES * on_cpu) // (_COPIES * height * width * task.channels))
    for first in range(0, len(frames), step):
        yield list(frames[first : first + step])


def gate_codes(model: Model, task: VideoTask) -> Code:
    """The gate's codes of all frames that are fitted: one code per frame of `task.signals`."""
    device = model.device
    chunks = frame_chunks(task, task.signals, device)
    return Code.concatenate([frame_codes(model, task.values(frames, device), frames) for frames in chunks])


@torch.no_grad()
def activations(model: Model, code: Code) -> Float[Tensor, "T n"]:
    """How strong every component is in every frame, in the frames' units.

    It is alpha_i(t) times the root mean square of b_i over pixels and channels.
    """
    dictionary = model.dictionary
    used = torch.unique(code.indices) if code.indices is not None else torch.arange(dictionary.num_experts)
    scales = model.coords.new_zeros(dictionary.num_experts)
    for expert in used.tolist():
        scales[expert] = dictionary.atoms(model.coords, expert, expert + 1).square().mean().sqrt()
    return code.dense(dictionary.num_experts) * scales


def background_experts(active: Float[Tensor, "T n"], most: int, share: float = PRESENT) -> list[int]:
    """Which components are the background: those that are there nearly always.

    A component is active in a frame where it changes pixels by a grey level or more. What moves, and even what pauses
    for almost half of the time, is active in fewer frames than the background is.

    Args:
        active: from `activations`.
        most: k, the largest rank of the background; the first in order are taken.
        share: of the frames, in which a component of the background must be active.

    Returns:
        Expert numbers in the order of the penalty, the cheapest first. If none is there so often, the one that is
        there most often.
    """
    presence = (active.abs() >= ACTIVE).double().mean(0)
    chosen = (presence >= share).nonzero()[:, 0].tolist()[:most]
    return chosen or [int(presence.argmax())]


@torch.no_grad()
def scene_experts(model: Model, active: Float[Tensor, "T n"], taken: Sequence[int], scenes: int) -> list[int]:
    """Which experts are the background of a scene, of whose frames `active` is: no two scenes have one in common.

    Where the training has given one expert to several scenes, the head of a later one begins as its copy, to be fitted
    anew; deep experts, which are not, stay common.

    Raises:
        UserError: when there are more scenes than experts.
    """
    count, heads = model.dictionary.num_experts, model.dictionary.experts
    chosen = background_experts(active, max(1, min(model.support, count // scenes)))
    if scenes == 1 or not isinstance(heads, LinearHeads):
        return chosen
    if scenes > count:
        raise UserError(
            f"dictionary.experts {count}",
            found=f"{scenes} scenes",
            expected="an expert for each at least",
            hint=f"train with dictionary.experts {2 * scenes}, or on one shot (signals.video.start and stop)",
        )
    own = [expert for expert in chosen if expert not in taken]
    if not own:
        strength = active.square().sum(0)
        strength[list(taken)] = torch.inf
        own = [int(strength.argmin())]  # the one that is missed the least
        heads.rows.data[own[0]] = heads.rows.data[chosen[0]]
    return own
