"""Counting how experts are used, by hand."""

import torch

from nid_dist.code import Code
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.training.usage import ExpertUsage

BIAS = torch.zeros(2, 1)


def test_sparse_codes_count_their_non_zeros() -> None:
    usage = ExpertUsage(4)
    usage.add(Code(torch.tensor([[1.0, -2.0], [0.0, 3.0]]), BIAS, torch.tensor([[0, 2], [1, 2]])))
    counts = usage.counts()
    assert counts.tolist() == [1, 0, 2, 0]
    # Of 0, 0, 1, 2: the median lies half way between the middle two.
    expected = {"dead_experts": 2.0, "imbalance": 2 / 0.75, "tokens_p5": 0.0, "tokens_p50": 0.5, "tokens_p95": 1.85}
    assert {name: round(value, 9) for name, value in usage.facts(counts).items()} == {
        name: round(value, 9) for name, value in expected.items()
    }


def test_dense_codes_count_too_and_a_reset_forgets() -> None:
    usage = ExpertUsage(3)
    usage.add(Code(torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 5.0]], requires_grad=True), BIAS))
    assert usage.counts().tolist() == [1, 0, 2]
    usage.reset()
    facts = usage.facts(usage.counts())
    assert (facts["dead_experts"], facts["imbalance"]) == (3.0, 0.0)


def test_tokens_of_the_ranks_that_share_the_experts() -> None:
    usage = ExpertUsage(4, World(Topology(4, world_size=2, expert_parallel_size=2)))
    counts = torch.tensor([5, 1, 0, 2])
    assert usage.tokens_by_rank(counts).tolist() == [6, 2]
    assert usage.facts(counts)["rank_imbalance"] == 1.5
