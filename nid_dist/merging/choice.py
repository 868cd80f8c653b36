"""Which way of merging is cheapest: by a rule on the CPU, as measured on an accelerator."""

import math
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

Way: TypeAlias = Literal["auto", "product", "gather", "kernel"]
Merge: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]

_RUNS = 3  # that are timed, after as many that are not: kernels are compiled, and memory is taken
_HOPELESS = 256  # experts per coefficient from which on a product with all of them is not tried

_fastest: dict[tuple[Any, ...], Way] = {}


def product_is_cheaper(support: int, experts: int) -> bool:
    """Whether a weighted sum of rows is a product with the dense code, or a gather: true for the product."""
    # A product with the dense [T, n] code costs T*n*p fused operations, the gather T*k*p uncached reads and, backward,
    # as many scattered writes: measured on CPU, they break even between n = 10k and n = 16k.
    return experts <= 12 * support


def kernel_serves(rows: Tensor) -> bool:
    """Whether the kernel can merge these rows."""
    return rows.device.type == "cuda" and rows.dtype in (torch.float32, torch.bfloat16) and _has_triton()


def chosen_way(
    merges: Mapping[Way, Merge], indices: Int[Tensor, "T k"], values: Float[Tensor, "T k"], rows: Float[Tensor, "n p"]
) -> Way:
    """The way for tensors like these.

    On an accelerator that has a clock of its own it is measured once, forward and, where gradients are asked for,
    backward. Not while a graph is captured, and not where results must not depend on what was measured
    (`torch.use_deterministic_algorithms`): there the rule decides.
    """
    (signals, support), experts = values.shape, rows.shape[0]
    rule: Way = "product" if product_is_cheaper(support, experts) else "gather"
    device = rows.device
    if device.type == "cpu" or not values.numel() or torch.are_deterministic_algorithms_enabled():
        return rule
    grad = torch.is_grad_enabled()
    asked = grad and values.requires_grad, grad and rows.requires_grad
    half = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    precision = half, torch.get_float32_matmul_precision()
    # Batches of about one size need not be told apart.
    key = (device, experts, support, (signals - 1).bit_length(), rows.shape[1], rows.dtype, precision, asked)
    if key not in _fastest:
        module = torch.get_device_module(device)
        if not hasattr(module, "Event") or getattr(module, "is_current_stream_capturing", bool)():
            return rule
        tried = [way for way in merges if _is_worth_trying(way, support, rows)]
        seconds = {way: _seconds(way, merges[way], indices, values, rows, asked) for way in tried}
        _fastest[key] = min(seconds, key=seconds.__getitem__)
    return _fastest[key]


def _is_worth_trying(way: Way, support: int, rows: Tensor) -> bool:
    return {"product": len(rows) <= _HOPELESS * support, "kernel": kernel_serves(rows)}.get(way, True)


def _seconds(way: Way, merge: Merge, indices: Tensor, values: Tensor, rows: Tensor, asked: tuple[bool, bool]) -> float:
    """How long a way takes; infinite where it does not run here."""
    # The same memory, apart from the graph that is being recorded.
    leaves = [tensor.detach().requires_grad_(some) for tensor, some in zip((values, rows), asked, strict=True)]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    module = torch.get_device_module(rows.device)

    def run() -> None:
        total = merge(indices, *leaves)
        if wanted:
            torch.autograd.grad(total, wanted, torch.ones_like(total))

    try:
        with module.device(rows.device), torch.set_grad_enabled(bool(wanted)):
            for _ in range(_RUNS):
                run()
            begin, end = (module.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(_RUNS):
                run()
            end.record()
            end.synchronize()
            return float(begin.elapsed_time(end))
    except torch.OutOfMemoryError:
        return math.inf
    except Exception as error:
        if way != "kernel":
            raise
        # Triton needs a C compiler beside it, among other things.
        warnings.warn(f"the merge goes without its kernel, which does not run here: {error}", stacklevel=2)
        return math.inf


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
