"""`step`: forward and backward of the dictionary, against the formulation of the reference code.

The dense reference evaluates all n experts at all C coordinates, [C, n*d], and multiplies with the codes as a matrix.
Both start from the same trunk, weights and codes, in one process, and take turns.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from nid_dist.benchmarks.harness import alternate
from nid_dist.benchmarks.sharded import SHARED_LAYERS, ShardedCase, Size
from nid_dist.code import Code
from nid_dist.device import resolve_device
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.evaluation.measuring import peak_bytes
from nid_dist.evaluation.report import Column, Table

SIGNALS, COORDINATES, CHANNELS = 64, 1024, 3
EXPERTS, SUPPORTS, WIDTHS = (1024, 4096, 16384, 65536), (128, 256), (256, 512)
_COLUMNS = [
    Column("n"),
    Column("k"),
    Column("h"),
    Column("ours", "ms", ".1f"),
    Column("dense", "ms", ".1f"),
    Column("speed-up", "", ".1f"),
    Column("ours", "MiB", ".0f"),
    Column("dense", "MiB", ".0f"),
    Column("memory", "ours/dense", ".3f"),
    Column("ours", "GFLOP/s", ".0f"),
    Column("ours", "of a GEMM", ".2f"),
]


class StepCase(ShardedCase):
    """One size in one process, and both ways to make a gradient step's gradients: `step`, and the dense one."""

    def __init__(
        self, experts: int, support: int, width: int, signals: int = SIGNALS, coordinates: int = COORDINATES
    ) -> None:
        super().__init__(None, Size(experts, support, coordinates, signals, width, CHANNELS))

    def first(self, signals: int) -> "StepCase":
        """The same experts and the first signals."""
        case, part = copy.copy(self), self.code.detach().rows(slice(signals))
        case.size = replace(self.size, signals=signals)
        case.code = Code(part.values.requires_grad_(), part.bias.requires_grad_(), part.indices)
        case.upstream = self.upstream[:signals]
        return case

    def dense(self) -> torch.Tensor:
        """Evaluate f by all outputs and a matrix product, and all gradients."""
        heads = self.dictionary.experts
        assert isinstance(heads, LinearHeads)
        features = self.dictionary.trunk(self.coords)
        outputs = features @ heads.weight.flatten(0, 1).t() + heads.offset.flatten()
        outputs = outputs.unflatten(1, (heads.num_experts, CHANNELS)).transpose(0, 1).flatten(1)
        combined = self.code.dense(heads.num_experts) @ outputs
        return self.backward(combined.unflatten(1, (self.size.coordinates, CHANNELS)) + self.code.bias[:, None])

    def flops(self) -> float:
        """Operations of `step`, forward and backward: products of the trunk, the merge and the merged heads."""
        support, width, signals = self.size.support, self.size.width, self.size.signals
        trunk = (SHARED_LAYERS - 1) * 3 * width * width + 2 * 2 * width  # the first layer needs no input gradient
        head = 3 * signals * CHANNELS * width
        merge = 3 * signals * support * CHANNELS * (width + 1)
        return 2.0 * (self.size.coordinates * (trunk + head) + merge)

    def peak_memory(self) -> dict[str, float]:
        """Bytes that one step of each needs beyond the parameters, gradients included."""
        memory = {}
        for name, run_once in (("ours", self.step), ("dense", self.dense)):
            self.clear()
            memory[name] = peak_bytes(run_once, self.device)
        return memory


class Gemm:
    """A square matrix product, the yardstick of what this machine can do."""

    def __init__(self, side: int = 2048) -> None:
        device = resolve_device("auto")
        self.left, self.right = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
        self.flops = 2.0 * side**3

    def run(self) -> torch.Tensor:
        """Multiply once."""
        return self.left @ self.right


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Measure all sizes (`quick`: two small ones)."""
    sizes = [(n, k, h) for n in EXPERTS for k in SUPPORTS for h in WIDTHS]
    if quick:
        sizes = [(64, 8, 16), (128, 8, 16)]
    gemm = Gemm()
    rows: list[list[Any]] = []
    figures: dict[str, Any] = {}
    for size in tqdm(sizes, unit="size"):
        case = StepCase(*size)
        error = (case.step() - case.dense()).abs().max() / case.dense().abs().max()
        seconds = alternate({"ours": case.step, "dense": case.dense, "gemm": gemm.run}, device=case.device)
        memory = case.peak_memory()
        found = {
            "speedup": seconds["dense"] / seconds["ours"],
            "memory_ratio": memory["ours"] / memory["dense"] if memory["dense"] else math.nan,
            "gemm_fraction": case.flops() / seconds["ours"] * seconds["gemm"] / gemm.flops,
            "relative_error": error.item(),
        }
        figures |= {f"{name}_n{size[0]}_k{size[1]}_h{size[2]}": value for name, value in found.items()}
        times = [1e3 * seconds[name] for name in ("ours", "dense")]
        megabytes = [memory[name] / 2**20 for name in ("ours", "dense")]
        rate = case.flops() / seconds["ours"] / 1e9
        rows.append([*size, *times, found["speedup"], *megabytes, found["memory_ratio"], rate, found["gemm_fraction"]])
    if not quick:
        figures |= _side_by_side(gemm)
        figures["memory_ratio_n4096"] = figures["memory_ratio_n4096_k256_h512"]
    return figures, Table(_COLUMNS, rows)


def _side_by_side(gemm: Gemm) -> dict[str, float]:
    """What compares one n with another is timed in one loop, as the machine's speed changes over minutes."""
    cases = {n: StepCase(n, 256, 512) for n in (1024, 4096, 16384)}
    runs: dict[str, Callable[[], object]] = {str(n): case.step for n, case in cases.items()}
    seconds = alternate({**runs, "gemm": gemm.run}, repeats=15, device=resolve_device("auto"))
    rate = gemm.flops / seconds["gemm"]
    return {
        "gemm_gflops": rate / 1e9,
        "time_ratio_n16384_n1024": seconds["16384"] / seconds["1024"],
        "gemm_fraction_n4096": cases[4096].flops() / seconds["4096"] / rate,
    }
