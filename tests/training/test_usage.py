"""Counting how experts are used, by hand."""

import torch

from nid_dist.coding.code import Code
from nid_dist.training.usage import ExpertUsage

BIAS = torch.zeros(2, 1)


def test_sparse_codes_count_their_non_zeros() -> None:
    usage = ExpertUsage(4)
    usage.add(Code(torch.tensor([[1.0, -2.0], [0.0, 3.0]]), BIAS, torch.tensor([[0, 2], [1, 2]])))
    assert usage.counts.tolist() == [1, 0, 2, 0]
    assert usage.facts() == {"dead_experts": 2.0, "imbalance": 2 / 0.75}


def test_dense_codes_count_too_and_a_reset_forgets() -> None:
    usage = ExpertUsage(3)
    usage.add(Code(torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 5.0]], requires_grad=True), BIAS))
    assert usage.counts.tolist() == [1, 0, 2]
    usage.reset()
    assert usage.facts() == {"dead_experts": 3.0, "imbalance": 0.0}
