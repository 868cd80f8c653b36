"""The merge as a kernel of our own, in Triton: a row that a signal uses is read once, and none laid beside another.

Forward, a program adds up one tile of one signal's sum, k rows in blocks. Backward, a program serves one block of one
signal's k coefficients: it adds to the rows' gradients atomically, in an order that differs between runs, and takes
the inner products that are the coefficients' gradients. All sums are in float32.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

_ROWS, _COLUMNS = 16, 128  # of a tile: 16 rows on their way at once hide the memory's latency


def kernel_sum(
    indices: Int[Tensor, "T k"], values: Float[Tensor, "T k"], rows: Float[Tensor, "n p"]
) -> Float[Tensor, "T p"]:
    """sum_j values_j rows[indices_j] of the rows' type, differentiable once in the values and the rows."""
    total: Tensor = _Merge.apply(indices, values, rows)
    return total


class _Merge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, indices: Tensor, values: Tensor, rows: Tensor) -> Tensor:
        indices, values, rows = indices.contiguous(), values.contiguous(), rows.contiguous()
        ctx.save_for_backward(indices, values, rows)
        (signals, support), length = values.shape, rows.shape[1]
        total = rows.new_empty(signals, length)
        grid = (signals, triton.cdiv(length, _COLUMNS))
        if signals and length:
            with torch.cuda.device_of(rows):
                _forward[grid](indices, values, rows, total, support, length, _ROWS, _COLUMNS)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        indices, values, rows = ctx.saved_tensors
        _, of_values, of_rows = ctx.needs_input_grad
        (signals, support), length = values.shape, rows.shape[1]
        value_slopes = torch.empty_like(values) if of_values else None
        row_slopes = torch.zeros_like(rows, dtype=torch.float32) if of_rows else None
        grid = (signals, triton.cdiv(support, _ROWS))
        if signals and support:
            with torch.cuda.device_of(rows):
                # Where no gradient is asked for, what stands in its place is not touched.
                _backward[grid](
                    indices,
                    values,
                    rows,
                    grad.contiguous(),
                    values if value_slopes is None else value_slopes,
                    rows if row_slopes is None else row_slopes,
                    support,
                    length,
                    of_values,
                    of_rows,
                    _ROWS,
                    _COLUMNS,
                )
        return None, value_slopes, None if row_slopes is None else row_slopes.to(rows.dtype)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    indices, values, rows, total, support, length, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    signal = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    within = columns < length
    tile = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, support, ROWS):
        slots = first + tl.arange(0, ROWS)
        there = slots < support
        index = tl.load(indices + signal * support + slots, mask=there, other=0).to(tl.int64)
        value = tl.load(values + signal * support + slots, mask=there, other=0.0).to(tl.float32)
        places = index[:, None] * length + columns[None, :]
        row = tl.load(rows + places, mask=there[:, None] & within[None, :], other=0.0)
        tile += value[:, None] * row.to(tl.float32)
    tl.store(total + signal * length + columns, tl.sum(tile, axis=0), mask=within)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    indices,
    values,
    rows,
    slopes,
    value_slopes,
    row_slopes,
    support,
    length,
    OF_VALUES: tl.constexpr,
    OF_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    signal = tl.program_id(0).to(tl.int64)
    slots = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    there = slots < support
    index = tl.load(indices + signal * support + slots, mask=there, other=0).to(tl.int64)
    value = tl.load(values + signal * support + slots, mask=there, other=0.0).to(tl.float32)
    # What fills a code up stands at row 0, all of it, and would queue there.
    counts = there & (value != 0)
    products = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, length, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        within = columns < length
        slope = tl.load(slopes + signal * length + columns, mask=within, other=0.0).to(tl.float32)
        places = index[:, None] * length + columns[None, :]
        if OF_VALUES:
            row = tl.load(rows + places, mask=there[:, None] & within[None, :], other=0.0)
            products += row.to(tl.float32) * slope[None, :]
        if OF_ROWS:
            added = value[:, None] * slope[None, :]
            tl.atomic_add(row_slopes + places, added, mask=counts[:, None] & within[None, :], sem="relaxed")
    if OF_VALUES:
        tl.store(value_slopes + signal * support + slots, tl.sum(products, axis=1), mask=there)
