"""What a card can do: products in each precision, copies, memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from nid_dist.benchmarks.gpu.timing import TimeBox, median_seconds
from nid_dist.precision import Precision, products_in, shortfall

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class CardSizes:
    """Of what is multiplied and copied."""

    side: int = 8192
    copied: int = 2**30  # bytes


def measure(device: torch.device, sizes: CardSizes, box: TimeBox) -> Iterator[dict[str, float]]:
    """`gemm_PRECISION_tflops` of square matrices, `copy_gb_per_s` (read and written), `memory_gb`."""
    for precision in available(device):
        if box.admits(f"products in {precision}"):
            kind = torch.bfloat16 if precision == "bf16" else torch.float32
            left, right = (torch.randn(sizes.side, sizes.side, device=device, dtype=kind) for _ in range(2))
            with products_in(precision, device):
                seconds = median_seconds(partial(torch.matmul, left, right), device, repeats=7, warm_up=2)
            yield {f"gemm_{precision}_tflops": 2 * sizes.side**3 / seconds / 1e12}
    source = torch.empty(sizes.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = median_seconds(lambda: target.copy_(source), device)
    yield {"copy_gb_per_s": 2 * sizes.copied / seconds / 1e9}
    if device.type == "cuda":
        yield {"memory_gb": torch.cuda.get_device_properties(device).total_memory / 1e9}


def available(device: torch.device) -> list[Precision]:
    """The precisions that a device has."""
    return [precision for precision in PRECISIONS if shortfall(precision, device) is None]
