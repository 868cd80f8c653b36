"""`step`: forward and backward of the dictionary, against the formulation of the reference code.

The dense reference evaluates all n experts at all C coordinates, [C, n*d], and multiplies with the codes as a matrix.
Both start from the same trunk, weights and codes, in one process, and take turns.
"""

import math
from typing import Any

import torch
from tqdm import tqdm

from nid_dist.benchmarks.harness import alternate, peak_bytes
from nid_dist.coding.code import Code
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.evaluation.report import Column, Table

SIGNALS, COORDINATES, CHANNELS, SHARED_LAYERS = 64, 1024, 3, 4
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
]


class Case:
    """One size: a dictionary on a sine trunk, random codes, and both ways to make a gradient step's gradients."""

    def __init__(self, experts: int, support: int, width: int) -> None:
        generator = torch.Generator().manual_seed(0)
        config = DictionaryConfig(
            experts=experts,
            width=width,
            shared_layers=SHARED_LAYERS,
            activation="sine",
            trunk_output="activated",
            encoding=Encoding(kind="identity"),
        )
        self.dictionary = Dictionary(config, 2, CHANNELS, generator)
        self.coords = torch.rand(COORDINATES, 2, generator=generator) * 2 - 1
        indices = torch.rand(SIGNALS, experts, generator=generator).topk(support, dim=1).indices
        values = torch.randn(SIGNALS, support, generator=generator).requires_grad_()
        self.code = Code(values, torch.zeros(SIGNALS, CHANNELS, requires_grad=True), indices)
        self.upstream = torch.randn(SIGNALS, COORDINATES, CHANNELS, generator=generator)
        self.sizes = (experts, support, width)

    def ours(self) -> torch.Tensor:
        """Evaluate f by the dictionary, and all gradients."""
        return self._backward(self.dictionary(self.code, self.coords))

    def dense(self) -> torch.Tensor:
        """Evaluate f by all outputs and a matrix product, and all gradients."""
        heads = self.dictionary.experts
        assert isinstance(heads, LinearHeads)
        features = self.dictionary.trunk(self.coords)
        outputs = features @ heads.weight.flatten(0, 1).t() + heads.offset.flatten()
        outputs = outputs.unflatten(1, (heads.experts, CHANNELS)).transpose(0, 1).flatten(1)
        combined = self.code.dense(heads.experts) @ outputs
        return self._backward(combined.unflatten(1, (COORDINATES, CHANNELS)) + self.code.bias[:, None])

    def flops(self) -> float:
        """Operations of `ours`, forward and backward: products of the trunk, the merge and the merged heads."""
        _, support, width = self.sizes
        trunk = (SHARED_LAYERS - 1) * 3 * width * width + 2 * 2 * width  # the first layer needs no input gradient
        head = 3 * SIGNALS * CHANNELS * width
        merge = 3 * SIGNALS * support * CHANNELS * (width + 1)
        return 2.0 * (COORDINATES * (trunk + head) + merge)

    def _backward(self, values: torch.Tensor) -> torch.Tensor:
        for parameter in (*self.dictionary.parameters(), self.code.values, self.code.bias):
            parameter.grad = None
        values.backward(self.upstream)
        return values.detach()


def gemm_flops_per_second(side: int = 2048) -> float:
    """What a square matrix product reaches here, in operations per second."""
    left, right = torch.randn(side, side), torch.randn(side, side)
    return 2.0 * side**3 / alternate({"gemm": lambda: left @ right}, repeats=9)["gemm"]


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Measure all sizes.

    Args:
        quick: two small sizes only, to see that it works.

    Returns:
        The figures and the table.
    """
    sizes = [(n, k, h) for n in EXPERTS for k in SUPPORTS for h in WIDTHS]
    if quick:
        sizes = [(64, 8, 16), (128, 8, 16)]
    rows: list[list[Any]] = []
    figures: dict[str, Any] = {}
    measured: dict[tuple[int, int, int], dict[str, float]] = {}
    for size in tqdm(sizes, unit="size"):
        case = Case(*size)
        error = (case.ours() - case.dense()).abs().max() / case.dense().abs().max()
        seconds = alternate({"ours": case.ours, "dense": case.dense})
        memory = {"ours": peak_bytes(case.ours), "dense": peak_bytes(case.dense)}
        rate = case.flops() / seconds["ours"]
        measured[size] = {"seconds": seconds["ours"], "speedup": seconds["dense"] / seconds["ours"], "rate": rate}
        measured[size]["memory_ratio"] = memory["ours"] / memory["dense"] if memory["dense"] else math.nan
        figures[f"relative_error_n{size[0]}_k{size[1]}_h{size[2]}"] = float(error)
        ours, dense = (memory[name] / 2**20 for name in ("ours", "dense"))
        times = [1e3 * seconds[name] for name in ("ours", "dense")]
        ratios = measured[size]
        rows.append([*size, *times, ratios["speedup"], ours, dense, ratios["memory_ratio"], rate / 1e9])
        for name in ("speedup", "memory_ratio"):
            figures[f"{name}_n{size[0]}_k{size[1]}_h{size[2]}"] = ratios[name]
    gemm = gemm_flops_per_second()
    figures["gemm_gflops"] = gemm / 1e9
    if not quick:
        largest, base = measured[16384, 256, 512], measured[1024, 256, 512]
        figures["time_ratio_n16384_n1024"] = largest["seconds"] / base["seconds"]
        figures["memory_ratio_n4096"] = measured[4096, 256, 512]["memory_ratio"]
        figures["gemm_fraction_n4096"] = measured[4096, 256, 512]["rate"] / gemm
    return figures, Table(_COLUMNS, rows)
