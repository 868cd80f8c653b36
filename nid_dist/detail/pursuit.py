"""Few splines for what a dictionary leaves over of a picture: orthogonal matching pursuit, many atoms a round.

In each round those members of the family are chosen that correlate with what is left over nearly as much as the best
one does, no two of one colour next to each other; then all that have been chosen, and the learned part beside them, are
fitted anew together (Pati, Rezaiifar and Krishnaprasad 1993; Donoho et al. 2012 for several at a time). Members are
products along rows and columns, and so are their correlations, for all of them at once: three matrices' products.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nid_dist.conjugate_gradients import conjugate_gradients
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.detail.family import AxisFamily, colour_directions
from nid_dist.detail.selected import SelectedSplines
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision
from nid_dist.progress import phase

_SHARE = 0.9  # of the largest correlation, that one must have to be chosen with it
_NEAR = 2  # pixels around a chosen one where no other is chosen in the same round
_MOST = 128  # chosen a round, or a sixteenth of all that are to be
_CANDIDATES = 4096  # that are looked at a round
_FLOATS = 2**24  # correlations at a time
_ITERATIONS, _TOLERANCE = 30, 1e-3  # of conjugate gradients in a round: the next one begins where it ends
_LAST_ITERATIONS, _LAST_TOLERANCE = 300, 1e-5
_ASKED = 5  # iterations from one look at the residual to the next
_NOTHING = 1e-6  # of the picture's range, or of its norm: what is left over then is rounding


@dataclass(frozen=True)
class Pursued:
    """What was found."""

    detail: SelectedSplines
    left_over: Float[Tensor, "H W d"]  # of the picture, by detail and trend together
    rounds: int
    residual: float  # of the equations of the last fit, relative to their right-hand side


@torch.no_grad()
@full_precision()
def pursue(picture: Float[Tensor, "H W d"], count: int, trend: Float[Tensor, "q H W d"] | None = None) -> Pursued:
    """Choose at most `count` members, and fit them together with anything in the span of `trend`.

    Fewer are chosen where nothing but rounding is left over.

    Args:
        picture: finite.
        count: coefficients.
        trend: orthonormal over pixels and channels; it is fitted beside them for nothing.
    """
    height, width, channels = picture.shape
    fit = _Fit(picture, trend)
    enough = _NOTHING * max(float(fit.target.norm()), float(picture.norm()), 1e-12)
    taken = set[tuple[int, int, int]]()
    rounds, residual = 0, 0.0
    with phase("detail", count, "coefficients") as progress:
        while len(taken) < count:
            left = count - len(taken)
            most = min(left, max(_MOST, count // 16))
            chosen = fit.candidates(most, taken, enough)
            if not chosen and taken and residual > _LAST_TOLERANCE:
                # What correlates the most has been chosen before, and is not yet fitted well enough.
                residual = fit.solve(_LAST_ITERATIONS, _LAST_TOLERANCE)
                chosen = fit.candidates(most, taken, enough)
            if not chosen:
                break
            rounds += 1
            taken.update(chosen)
            fit.add(chosen)
            last = len(chosen) >= left
            residual = fit.solve(*((_LAST_ITERATIONS, _LAST_TOLERANCE) if last else (_ITERATIONS, _TOLERANCE)))
            progress.advance(len(chosen))
    if taken and len(taken) < count:
        residual = fit.solve(_LAST_ITERATIONS, _LAST_TOLERANCE)
    detail = SelectedSplines((height, width), channels, fit.members, fit.coefficients / fit.norms)
    return Pursued(detail, fit.in_colour(fit.left_over), rounds, residual)


class _Fit:
    """The chosen members, each of norm 1 on the pixels, and their coefficients.

    The columns of B are the chosen members, Q is the trend: B c is fitted to y under (I - Q Q^T).
    """

    def __init__(self, picture: Float[Tensor, "H W d"], trend: Float[Tensor, "q H W d"] | None) -> None:
        device, dtype = picture.device, picture.dtype
        self._colours = colour_directions(picture.shape[2]).to(picture)
        self._trend = None if trend is None else torch.einsum("qhwd,cd->qchw", trend, self._colours).flatten(1)
        self._axes = [AxisFamily(pixels) for pixels in picture.shape[:2]]
        self._sampled, self._norms, self._centres = [], [], []
        for axis in self._axes:
            every = torch.arange(axis.size, device=device)
            coords = coordinate_grid((axis.pixels,))[:, 0].to(device, torch.float64)
            values = axis.evaluate(coords, every)
            norms = values.norm(dim=1).clamp_min(1e-12)
            self._sampled.append((values / norms[:, None]).to(dtype))
            self._norms.append(norms.to(dtype))
            self._centres.append(axis.centres(every))
        self.target = self._without_trend(torch.einsum("hwd,cd->chw", picture, self._colours))
        self.left_over = self.target
        self.members: Int[Tensor, "N 3"] = torch.zeros(0, 3, dtype=torch.long, device=device)
        self.coefficients = picture.new_zeros(0)
        self._own = list[Bool[Tensor, "N"]]()
        self._along = list[tuple[Tensor, Tensor]]()
        # Q^T B: with it a step of the solver needs no product with the trend itself, which is large.
        self._cross = picture.new_zeros(0 if trend is None else len(trend), 0)

    @property
    def norms(self) -> Float[Tensor, "N"]:
        """Of the chosen members, whose coefficients are of norm 1."""
        return self._norms[0][self.members[:, 1]] * self._norms[1][self.members[:, 2]]

    def in_colour(self, picture: Float[Tensor, "d H W"]) -> Float[Tensor, "H W d"]:
        """A picture in directions of colour, in the channels that were given."""
        return torch.einsum("chw,cd->hwd", picture, self._colours)

    def candidates(self, most: int, taken: set[tuple[int, int, int]], enough: float) -> list[tuple[int, int, int]]:
        """The next members; none where nothing correlates by more than `enough`."""
        rows, columns = self._sampled
        step = max(1, floats_at_once(rows.device, _FLOATS) // len(columns))
        best, members, sizes = rows.new_zeros(()), list[Tensor](), list[Tensor]()
        for colour, left_over in enumerate(self.left_over):
            across = left_over @ columns.t()
            for first in range(0, len(rows), step):
                size = (rows[first : first + step] @ across).abs()
                best = torch.maximum(best, size.max())
                place = (size > (_SHARE * best).clamp_min(enough)).nonzero()
                sizes.append(size[place[:, 0], place[:, 1]])
                place[:, 0] += first
                members.append(torch.cat([torch.full_like(place[:, :1], colour), place], 1))
        found, strength = torch.cat(members), torch.cat(sizes)
        strength, order = strength.topk(min(_CANDIDATES, len(strength)))
        found = found[order[strength > _SHARE * best]]
        centres = torch.stack([found[:, 0], self._centres[0][found[:, 1]], self._centres[1][found[:, 2]]], 1)
        chosen, near = list[tuple[int, int, int]](), set[tuple[int, int, int]]()
        around = range(-_NEAR, _NEAR + 1)
        for (c, i, j), (_, y, x) in zip(found.tolist(), centres.tolist(), strict=True):
            if (c, y, x) in near or (c, i, j) in taken:
                continue
            chosen.append((c, i, j))
            if len(chosen) == most:
                break
            near.update((c, y + a, x + b) for a in around for b in around)
        return chosen

    def add(self, chosen: list[tuple[int, int, int]]) -> None:
        """Add members, whose coefficients are 0 at first."""
        added = torch.tensor(chosen, device=self.members.device)
        self.members = torch.cat([self.members, added])
        self._cross = torch.cat([self._cross, self._in_trend(added)], 1)
        self.coefficients = torch.cat([self.coefficients, self.coefficients.new_zeros(len(chosen))])
        self._own = [self.members[:, 0] == colour for colour in range(len(self._colours))]
        self._along = [
            (self._sampled[0][self.members[own, 1]], self._sampled[1][self.members[own, 2]]) for own in self._own
        ]

    def solve(self, iterations: int, tolerance: float) -> float:
        """Fit all coefficients anew, from the present ones on, by conjugate gradients: the equations' residual."""
        size = self._adjoint(self.target).norm()

        def shown(direction: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
            return self._adjoint(self._picture(direction)) - self._cross.t() @ (self._cross @ direction)

        change = conjugate_gradients(
            shown, self._adjoint(self.left_over), iterations=iterations, tolerance=tolerance, size=size, asked=_ASKED
        )
        self.coefficients = self.coefficients + change.value
        self.left_over = self.target - self._without_trend(self._picture(self.coefficients))
        return float(self._adjoint(self.left_over).norm() / size.clamp_min(1e-30))

    def _in_trend(self, members: Int[Tensor, "n 3"]) -> Float[Tensor, "q n"]:
        found = self._cross.new_zeros(len(self._cross), len(members))
        if self._trend is None:
            return found
        shown = self._trend.unflatten(1, self.target.shape)
        for colour in members[:, 0].unique().tolist():
            own = members[:, 0] == colour
            rows, columns = self._sampled[0][members[own, 1]], self._sampled[1][members[own, 2]]
            found[:, own] = torch.stack([((rows @ part) * columns).sum(1) for part in shown[:, colour]])
        return found

    def _picture(self, coefficients: Float[Tensor, "N"]) -> Float[Tensor, "d H W"]:
        parts = [
            (rows * coefficients[own, None]).t() @ columns
            for own, (rows, columns) in zip(self._own, self._along, strict=True)
        ]
        return torch.stack(parts)

    def _adjoint(self, picture: Float[Tensor, "d H W"]) -> Float[Tensor, "N"]:
        found = torch.zeros_like(self.coefficients)
        for own, (rows, columns), part in zip(self._own, self._along, picture, strict=True):
            found[own] = ((rows @ part) * columns).sum(1)
        return found

    def _without_trend(self, picture: Float[Tensor, "d H W"]) -> Float[Tensor, "d H W"]:
        if self._trend is None:
            return picture
        flat = picture.flatten()
        return (flat - self._trend.t() @ (self._trend @ flat)).view_as(picture)
