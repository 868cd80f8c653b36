"""Multiplications on paper are those that torch counts, and numbers those that a code holds."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nid_dist.code import Code
from nid_dist.evaluation.operations import image_operations, stored_numbers
from nid_dist.model import Model
from nid_dist.tasks.images.task import ImageTask
from tests.tiny import tiny


def model(images: Path, tmp_path: Path, *overrides: str) -> Model:
    return ImageTask(tiny(images, tmp_path / "run", *overrides)).model().eval()


# With k = 4 of 32 experts the heads are merged by a product with all 32 (`product_is_cheaper`), which torch counts.
@pytest.mark.parametrize(
    ("overrides", "signals", "summed"),
    [
        (["dictionary.strategy=merge"], 5, 32),
        (["dictionary.strategy=combine", "coding.support=32"], 5, 32),
        (["dictionary.private_layers=2", "dictionary.private_width=8", "coding.support=32"], 3, 32),
        (["dictionary.shared_layers=3", "dictionary.strategy=merge"], 1, 32),
    ],
)
def test_what_torch_counts(overrides: list[str], signals: int, summed: int, images: Path, tmp_path: Path) -> None:
    made = model(images, tmp_path, *overrides)
    k = made.support
    indices = torch.stack([torch.randperm(32)[:k] for _ in range(signals)])
    code = Code(torch.randn(signals, k), torch.randn(signals, 3), indices)
    encoding = made.dictionary.trunk.encoding
    with FlopCounterMode(display=False) as projecting:
        encoding(made.coords)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made.dictionary(code, made.coords)
    counted = counter.get_total_flops() - projecting.get_total_flops()
    ours = image_operations(made, signals, len(made.coords)).decode
    if made.dictionary.linear and made.config.dictionary.strategy == "merge":
        width = made.dictionary.trunk.out_dim
        ours += signals * 3 * (summed - k) * (width + 1)
    assert 2 * ours == counted


@pytest.mark.parametrize("kind", ["light", "unrolled"])
def test_the_gate_is_counted(kind: str, images: Path, tmp_path: Path) -> None:
    made = model(images, tmp_path, f"coding.gate={{kind: {kind}}}")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made.encode(torch.rand(1, 64, 3))
    assert image_operations(made, 7, 64).encode == 7 * counter.get_total_flops() // 2 > 0


def test_without_a_gate(images: Path, tmp_path: Path) -> None:
    made = model(images, tmp_path, "coding.gate.kind=none", "coding.phases=[{mode: solve}]")
    assert image_operations(made, 7, 64).encode == 0


def test_numbers() -> None:
    code = Code(torch.tensor([[1.0, 0.0], [2.0, -3.0]]), torch.zeros(2, 3), torch.tensor([[0, 1], [2, 3]]))
    assert stored_numbers(code) == 3 + 6
