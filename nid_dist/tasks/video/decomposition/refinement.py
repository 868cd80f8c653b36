"""The background fitted anew, robustly: codes and heads in turn, both in closed form, outliers forgotten.

Training leaves the background where its loss has led it, up to the noise of stochastic steps. f is linear in a frame's
code, and in the background's heads for given codes: so both least squares are solved exactly, reweighted by Tukey's
biweight until passers-by have no say. For the heads every frame enters only through sums over time at each pixel, so
that memory does not depend on the video's length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.irls import RobustSolution, robust_weights, solve_irls
from nid_dist.data.sampler import coordinate_subset
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.progress import phase
from nid_dist.tasks.video.decomposition.components import frame_chunks
from nid_dist.tasks.video.decomposition.foreground import noise_level
from nid_dist.tasks.video.task import VideoTask

ROUNDS = 3
_SPREAD = 1.4826  # of deviations, relative to their median
_TUKEY = 4.685  # delta point of the biweight in spreads, for codes
HEADS = 3.5  # the same in standard deviations for heads, which must tell a pale sprite at rest from the wall behind it
_RIDGE = 1e-8
_PIXELS = 2**14  # whose features are held at a time
_FITTED = 2048  # pixels that a frame's code is solved on
_ITERATIONS, _TOLERANCE = 6, 1e-2  # of a code, which is solved anew in every round


@dataclass(frozen=True)
class Background:
    """The background of a video, as far as codes go."""

    experts: list[int]  # that it is made of; their heads are the model's
    code: Code  # of the frames that were fitted
    noise: float  # standard deviation of what is left over where nothing moves, in the frames' units


def refine(
    model: Model, task: VideoTask, experts: Sequence[int], frames: Sequence[int], rounds: int = ROUNDS
) -> Background:
    """Fit the background's codes and heads to the frames of a scene: heads `rounds` times, codes once more.

    The heads of the background's experts are changed in place; deep experts stay as they are.
    """
    heads, fit = model.dictionary.experts, _CodeFit(model, task, experts, frames)
    chosen = torch.tensor(list(experts), device=model.device)
    if isinstance(heads, LinearHeads):
        for turn in range(rounds):
            sums = _Sums(len(model.coords), len(chosen), model.channels, model.device)
            for values, solution in fit.solutions(f"background {turn + 1}/{rounds}"):
                sums.add(values, solution.code, fit.weights(values, solution))
            _update_heads(model, heads, chosen, sums)
    codes, spreads = [], []
    for _, solution in fit.solutions("codes"):
        codes.append(solution.code)
        spreads.append(solution.scale / _TUKEY)
    middle = float(torch.cat(spreads).median()) / _SPREAD
    return Background(list(experts), Code.concatenate(codes), noise_level(middle, model.channels))


class _CodeFit:
    """Robust codes of frames for the present heads.

    A code has a few numbers: some thousands of pixels tell them. What all others weigh follows from the code.
    """

    def __init__(self, model: Model, task: VideoTask, experts: Sequence[int], frames: Sequence[int]) -> None:
        self._model, self._task, self._frames = model, task, frames
        self._numbers, self._experts = list(experts), torch.tensor(list(experts), device=model.device)
        pixels = coordinate_subset(model.config.training.seed, 0, len(model.coords), _FITTED).to(model.device)
        self._pixels, self._measurement = pixels, Sampling(model.coords[pixels])
        self._kept, self._atoms = model.coords.new_zeros(0, 0), model.coords.new_zeros(0, 0, 0)

    def solutions(self, name: str) -> Iterator[tuple[Float[Tensor, "T C d"], RobustSolution]]:
        """All pixels of frames with their codes, some at a time."""
        task, device = self._task, self._model.device
        # Evaluated once for all frames: the heads stay as they are meanwhile.
        self._atoms = atoms_of(self._model, self._numbers, self._model.coords)
        with phase(name, len(self._frames), "frames") as progress:
            for frames in frame_chunks(task, self._frames, device):
                values, self._kept = task.values(frames, device), task.weights(frames, device)
                solution = solve_irls(
                    self._model.dictionary,
                    self._measurement,
                    values[:, self._pixels],
                    len(self._experts),
                    loss="tukey",
                    weights=self._kept[:, self._pixels],
                    indices=self._experts.expand(len(frames), -1),
                    ridge=_RIDGE,
                    iterations=_ITERATIONS,
                    tolerance=_TOLERANCE,
                )
                yield values, solution
                progress.advance(len(frames))

    @torch.no_grad()
    def weights(self, values: Float[Tensor, "T C d"], solution: RobustSolution) -> Float[Tensor, "T C"]:
        """How much every pixel of the frames just given is trusted."""
        estimate = torch.einsum("tj,jcd->tcd", solution.code.values, self._atoms) + solution.code.bias[:, None]
        size = (estimate - values).square().mean(2).sqrt()
        delta = HEADS * noise_level(1.0, self._model.channels) / (_TUKEY * _SPREAD) * solution.scale
        return self._kept * robust_weights(size, delta[:, None], "tukey")


@torch.no_grad()
def atoms_of(model: Model, experts: Sequence[int], coords: Float[Tensor, "C 2"]) -> Float[Tensor, "J C d"]:
    """The atoms of some experts, in this order, on many coordinates."""
    parts = [
        torch.cat([model.dictionary.atoms(coords[part], expert, expert + 1) for expert in experts])
        for part in pixel_parts(len(coords))
    ]
    return torch.cat(parts, 1)


def pixel_parts(count: int) -> Iterator[slice]:
    """So many pixels at a time that their features need little memory."""
    for first in range(0, count, _PIXELS):
        yield slice(first, min(first + _PIXELS, count))


class _Sums:
    """Sums over time of w alpha alpha^T and w alpha (y - beta)^T at each pixel."""

    def __init__(self, pixels: int, experts: int, channels: int, device: torch.device) -> None:
        self.squares = torch.zeros(pixels, experts, experts, dtype=torch.float64, device=device)
        self.products = torch.zeros(pixels, experts, channels, dtype=torch.float64, device=device)

    def add(self, values: Float[Tensor, "T C d"], code: Code, weights: Float[Tensor, "T C"]) -> None:
        alpha, weights = code.values.double(), weights.double()
        self.squares += torch.einsum("tc,tj,tk->cjk", weights, alpha, alpha)
        rest = weights[..., None] * (values - code.bias[:, None])
        self.products += torch.einsum("tj,tcd->cjd", alpha, rest)


@torch.no_grad()
def _update_heads(model: Model, heads: LinearHeads, experts: Int[Tensor, "J"], sums: _Sums) -> None:
    """The heads that are best under the weights: one system for all of them, the same for every channel."""
    count, width, channels = len(experts), heads.width + 1, heads.channels
    system = sums.squares.new_zeros(count, width, count, width)
    right = sums.squares.new_zeros(count, width, channels)
    present = torch.cat([heads.weight[experts], heads.offset[experts][..., None]], 2).double().transpose(1, 2)
    for part in pixel_parts(len(model.coords)):
        features = model.dictionary.trunk(model.coords[part]).double()
        features = torch.cat([features, features.new_ones(len(features), 1)], 1)
        squares = sums.squares[part]
        # What the present heads leave over: the ridge pulls towards them, not towards zero.
        left = sums.products[part] - torch.einsum("cjk,ch,khd->cjd", squares, features, present)
        right += torch.einsum("cjd,ch->jhd", left, features)
        for j in range(count):
            for other in range(count):
                weighted = features * squares[:, j, other, None]
                system[j, :, other] += weighted.t() @ features
    flat = system.reshape(count * width, count * width)
    flat.diagonal().add_(_RIDGE * flat.diagonal().mean().clamp_min(1e-30))
    # The ridge keeps it regular; to check that would be to wait.
    change = torch.linalg.solve_ex(flat, right.reshape(count * width, channels)).result
    change = change.reshape(count, width, channels)
    found = (present + change).transpose(1, 2).to(heads.rows.dtype)
    rows = torch.cat([found[..., :-1].flatten(1), found[..., -1]], 1)
    heads.rows.data[experts] = rows
