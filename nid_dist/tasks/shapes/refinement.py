"""What a cloud says beyond the dictionary: values and normals of f, met by splines on grids that are finer around it.

On each grid in turn, the coefficients of its splines minimise, of all of the detail d so far,

    sum_i w_i (d(x_i) - y_i)^2 + sum_i v_i |grad d(x_i) - g_i|^2 + roughness * integral |Hessian of d|^2,

as smooth signed distances (Calakli and Taubin 2011) do of f itself. The coarsest grid fills the cube; a finer one has
splines only within a few cells of the points, outside which d stays what the coarser ones make of it. So the unknowns
grow with the surface and not with the volume. Each problem starts from the coarser grids' solution and is sparse:
conjugate gradients need a few dozen steps.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nid_dist.conjugate_gradients import conjugate_gradients
from nid_dist.detail.detail import Detail
from nid_dist.detail.sparse import SparseRows
from nid_dist.detail.splines import SplineGrid

_REACH = 2  # cells about one with a point, in which a finer grid has splines
_TOLERANCE, _ITERATIONS = 3e-3, 80
_ASKED = 4  # iterations from one look at the residual to the next
# The integral of the squared second derivatives as a quadratic form in the values at nodes: the differences
# (1, -2, 1) along an axis, and (1, -1, -1, 1) in a plane, twice. Rows of it, from node to node.
_STENCIL = {
    (0, 0, 0): 3 * 6 + 3 * 2 * 4,
    **{tuple(s * (axis == a) for a in range(3)): -4 - 2 * 2 * 2 for axis in range(3) for s in (-1, 1)},
    **{tuple(2 * s * (axis == a) for a in range(3)): 1 for axis in range(3) for s in (-1, 1)},
    **{
        tuple(s if a == first else t if a == second else 0 for a in range(3)): 2
        for first, second in ((0, 1), (0, 2), (1, 2))
        for s in (-1, 1)
        for t in (-1, 1)
    },
}


@dataclass(frozen=True)
class Told:
    """What is known of d: values at points, and gradients at the first of them."""

    coords: Float[Tensor, "N 3"]  # in the cube; about the first P of them the grids are fine
    values: Float[Tensor, "N"]
    weights: Float[Tensor, "N"]
    gradients: Float[Tensor, "P 3"]  # P may be N; where nothing is known of them their weights are 0
    gradient_weights: Float[Tensor, "P"]

    def rows(self, points: Bool[Tensor, "P"], others: bool = True) -> "Told":
        """With some of the P points left out; `others`: whether the rest of the coordinates is kept."""
        count = len(self.gradients)
        rest = torch.full((len(self.coords) - count,), others, device=points.device)
        kept = torch.cat([points, rest])
        return Told(
            self.coords[kept],
            self.values[kept],
            self.weights[kept],
            self.gradients[points],
            self.gradient_weights[points],
        )


@dataclass(frozen=True)
class Refined:
    """Detail, and how well it was solved for."""

    detail: Detail
    iterations: int  # of conjugate gradients, on all grids together
    residual: float  # of the finest grid's equations, relative to their right-hand side


@dataclass(frozen=True)
class Level:
    """A grid for some coordinates: what does not depend on the values there, nor on how smooth the detail is to be."""

    grid: SplineGrid
    nodes: Int[Tensor, "n"]  # where it has splines
    within: list[Bool[Tensor, "_"]]  # of values, and of derivatives along each axis: those that it reaches
    weights: Float[Tensor, "R"]  # of these
    matrix: SparseRows  # from the nodes' coefficients to these
    transposed: SparseRows
    rough: SparseRows  # the quadratic form of the roughness at the nodes
    around: Int[Tensor, "n s"]  # the grid's splines that it joins to each node


def prepare(told: Told, cells: Sequence[int], finer: bool = False) -> Iterator[Level]:
    """The grids of so many cells along the cube, for the coordinates and weights of what is told.

    Args:
        finer: whether there is a coarser grid already, so that the first, too, has splines near the points only.
    """
    for place, each in enumerate(cells):
        grid = SplineGrid.covering((each,) * 3, 1)
        near = finer or place > 0
        nodes = _near(grid, told.coords[: len(told.gradients)]) if near else _all(grid, told.coords.device)
        number = torch.full((grid.size,), -1, dtype=torch.long, device=nodes.device)
        number[nodes] = torch.arange(len(nodes), device=nodes.device)
        matrix, within, weights = _matrix(grid, number, told)
        yield Level(grid, nodes, within, weights, matrix, matrix.transposed, *_roughness(grid, nodes, number, told))


def refine(told: Told, cells: Sequence[int], roughness: float, start: Detail | None = None) -> Refined:
    """Solve for the detail on grids of so many cells along the cube, the coarsest first.

    Args:
        roughness: the weight of the integral, in units of the cube's half side.
        start: of the coarser grids, which are not solved for again.
    """
    return solve(told, prepare(told, cells, start is not None), roughness, start)


@torch.no_grad()
def solve(told: Told, levels: Iterable[Level], roughness: float, start: Detail | None = None) -> Refined:
    """As `refine`, on levels that have been prepared for the coordinates and weights told."""
    below = start
    iterations, residual = 0, 0.0
    for level in levels:
        found, steps, residual = _solve(level, told, roughness, below)
        iterations += steps
        known = () if below is None else below.grids
        values = [] if below is None else [below.values]
        below = Detail((*known, level.grid), torch.cat([*values, found[None, :, None]], 1))
    assert below is not None
    return Refined(below, iterations, residual)


def _all(grid: SplineGrid, device: torch.device) -> Int[Tensor, "n"]:
    return torch.arange(grid.size, device=device)


def _near(grid: SplineGrid, points: Float[Tensor, "P 3"]) -> Int[Tensor, "n"]:
    """The corners of all cells within reach of one with a point, ascending."""
    side = grid.shape[0]
    cell = ((points.double() - grid.start[0]) / grid.step[0]).floor().long().clamp(0, side - 2)
    place = torch.unique(_flat(cell, side))
    marked = torch.zeros(grid.shape, dtype=torch.bool, device=points.device)
    marked.view(-1)[place] = True
    for axis in range(3):  # along one axis after another: a cube about each
        marked = _spread(marked, axis, _REACH, _REACH + 1)
    return marked.view(-1).nonzero()[:, 0]


def _spread(marked: Bool[Tensor, "s s s"], axis: int, before: int, after: int) -> Bool[Tensor, "s s s"]:
    found, side = marked.clone(), marked.shape[axis]
    for step in range(1, max(before, after) + 1):
        if step <= after:
            found.narrow(axis, step, side - step).logical_or_(marked.narrow(axis, 0, side - step))
        if step <= before:
            found.narrow(axis, 0, side - step).logical_or_(marked.narrow(axis, step, side - step))
    return found


def _flat(place: Int[Tensor, "... 3"], side: int) -> Int[Tensor, "..."]:
    return (place[..., 0] * side + place[..., 1]) * side + place[..., 2]


def _solve(level: Level, told: Told, roughness: float, below: Detail | None) -> tuple[Float[Tensor, "G"], int, float]:
    """A grid's coefficients, the iterations and the relative residual."""
    grid, weights, matrix, transposed, rough = level.grid, level.weights, level.matrix, level.transposed, level.rough
    scale = roughness / grid.step[0]  # second differences over the step squared, squared, times the step cubed

    def system(x: Tensor) -> Tensor:
        return transposed(weights * matrix(x)) + scale * rough(x)

    right = transposed((weights * _target(level, told, below))[None]) - scale * _roughness_of(below, level)[None]
    diagonal = transposed.squared(weights[None]) + scale * _STENCIL[(0, 0, 0)]
    solved = conjugate_gradients(
        system, right, iterations=_ITERATIONS, tolerance=_TOLERANCE, inverse=1 / diagonal, asked=_ASKED
    )
    found = right.new_zeros(grid.size)
    found[level.nodes] = solved.value[0]
    return found, solved.iterations, float(solved.residual)


def _matrix(
    grid: SplineGrid, number: Int[Tensor, "G"], told: Told
) -> tuple[SparseRows, list[Bool[Tensor, "_"]], Float[Tensor, "R"]]:
    """Values and derivatives of the grid's splines where they are known, which these are, and their weights."""
    rows, columns, values, kept, weights, first = [], [], [], [], [], 0
    for axis, coords, weight in _groups(told):
        indices, splines = grid.corners(coords, axis)
        column = number[indices]
        # What is not within the finer grid's reach was said to the coarser ones.
        within = (column >= 0).all(1) & (weight > 0)
        columns.append(column[within].flatten())
        values.append(splines[within].flatten())
        known = int(within.sum())
        rows.append(torch.arange(first, first + known, device=coords.device).repeat_interleave(indices.shape[1]))
        first += known
        kept.append(within)
        weights.append(weight[within])
    shape = (first, int(number.max()) + 1)
    matrix = SparseRows.ordered(torch.cat(rows), torch.cat(columns), torch.cat(values), shape)
    return matrix, kept, torch.cat(weights)


def _groups(told: Told) -> Iterator[tuple[int | None, Float[Tensor, "_ 3"], Float[Tensor, "_"]]]:
    """What is known of values and of derivatives along each axis: where, and how much it weighs."""
    yield None, told.coords, told.weights
    for axis in range(3):
        yield axis, told.coords[: len(told.gradients)], told.gradient_weights


def _target(level: Level, told: Told, below: Detail | None) -> Float[Tensor, "R"]:
    """What the grid's values and derivatives should be: what the coarser grids leave."""
    parts = []
    for (axis, coords, _), within in zip(_groups(told), level.within, strict=True):
        known = told.values if axis is None else told.gradients[:, axis]
        parts.append(known[within] - _of(below, coords[within], axis))
    return torch.cat(parts)


def _of(below: Detail | None, coords: Float[Tensor, "C 3"], axis: int | None) -> Float[Tensor, "C"]:
    """The coarser grids' detail, or its derivative along an axis."""
    found = coords.new_zeros(len(coords))
    if below is None:
        return found
    parts = below.values[0, :, 0].split([grid.size for grid in below.grids])
    for grid, part in zip(below.grids, parts, strict=True):
        indices, splines = grid.corners(coords, axis)
        found += (part[indices] * splines).sum(1)
    return found


def _roughness(
    grid: SplineGrid, nodes: Int[Tensor, "n"], number: Int[Tensor, "G"], told: Told
) -> tuple[SparseRows, Int[Tensor, "n s"]]:
    """The quadratic form of the roughness at the nodes, and the splines that it joins to each, without splines too."""
    side, device = grid.shape[0], nodes.device
    offsets, factors = _stencil(told.coords)
    place = torch.stack([nodes // side**2, nodes // side % side, nodes % side], 1)
    there = place[:, None] + offsets
    within = ((there >= 0) & (there < side)).all(2)
    around = _flat(there.clamp(0, side - 1), side)
    column = torch.where(within, number[around], -1)
    known = column >= 0
    row = torch.arange(len(nodes), device=device).repeat_interleave(len(offsets))[known.flatten()]
    value = factors.expand(len(nodes), -1)[known]
    return SparseRows.ordered(row, column[known], value, (len(nodes), len(nodes))), around


def _roughness_of(below: Detail | None, level: Level) -> Float[Tensor, "n"]:
    """The product of the quadratic form with what the coarser grids have at the nodes and around."""
    grid, side = level.grid, level.grid.shape[0]
    if below is None:
        return level.weights.new_zeros(len(level.nodes))
    met = torch.zeros(grid.size, dtype=torch.bool, device=level.nodes.device)
    met[level.around.flatten()] = True
    others = met.nonzero()[:, 0]
    at = torch.stack([others // side**2, others // side % side, others % side], 1) * grid.step[0] + grid.start[0]
    values = level.weights.new_zeros(grid.size)
    values[others] = _of(below, at.to(values.dtype), None)
    return (values[level.around] * _stencil(values)[1]).sum(1)


def _stencil(like: Tensor) -> tuple[Int[Tensor, "s 3"], Float[Tensor, "s"]]:
    """Steps to the neighbours that the roughness joins to a node, and their factors, where another tensor is."""
    steps = sorted(_STENCIL)
    factors = [float(_STENCIL[each]) for each in steps]
    return torch.tensor(steps, device=like.device), torch.tensor(factors, device=like.device, dtype=like.dtype)
