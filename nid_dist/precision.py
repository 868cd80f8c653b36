"""How exactly products are computed: what `training.precision` allows, and where no less than float32 will do."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["fp32", "tf32", "bf16"]


@contextmanager
def products_in(precision: Precision, device: torch.device, *, remember_casts: bool = True) -> Iterator[None]:
    """Compute on a device as a training's precision says: a step's forward and backward pass, or an evaluation.

    `tf32` rounds what tensor cores multiply to 10 bits, where there are any (`shortfall`); `bf16` keeps products in
    half the memory and 8 bits (PyTorch's autocast). `remember_casts`: of parameters, for their next use inside.
    """
    half = torch.autocast(device.type, torch.bfloat16, precision == "bf16", cache_enabled=remember_casts)
    with _rounded(precision == "tf32", device.type), half:
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute in float32 whatever surrounds it: normal equations are ill-conditioned, and phases are large numbers.

    As a decorator, `@full_precision()`, it is for functions.
    """
    accelerator = torch.accelerator.current_accelerator()
    kinds = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
    with ExitStack() as opened:
        for kind in kinds:
            opened.enter_context(_rounded(False, kind))
            if torch.is_autocast_enabled(kind):
                opened.enter_context(torch.autocast(kind, enabled=False))
        yield


def shortfall(precision: Precision, device: torch.device) -> str | None:
    """What to say of a precision that a device does not have; None: it has it."""
    if precision != "tf32" or (device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)):
        return None
    return f"training.precision: {device} has no tf32, it is fp32 here"


@contextmanager
def _rounded(allowed: bool, kind: str) -> Iterator[None]:
    """Whether a GPU may round the factors of products and convolutions in float32; PyTorch's default: the latter's."""
    if kind != "cuda":
        yield
        return
    # Of products PyTorch's readers of older and newer settings agree only where they are set by this function.
    before, conv_before = torch.get_float32_matmul_precision(), _convolutions()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    _set_convolutions("tf32" if allowed else "ieee")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        _set_convolutions(conv_before)


def _convolutions() -> str:
    if hasattr(torch.backends.cudnn, "conv"):  # from PyTorch 2.9 on
        return str(torch.backends.cudnn.conv.fp32_precision)
    return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"


def _set_convolutions(precision: str) -> None:
    if hasattr(torch.backends.cudnn, "conv"):
        torch.backends.cudnn.conv.fp32_precision = precision
    else:
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
