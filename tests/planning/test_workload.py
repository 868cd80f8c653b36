"""Operations on paper are those that PyTorch counts, wherever it can count them, and grow with what is asked."""

import dataclasses
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nid_dist.code import Code
from nid_dist.coding.gates.cost import GateCost
from nid_dist.coding.solvers import sharded
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.planning.cost import fetches
from nid_dist.planning.run import Run
from nid_dist.planning.workload import step_flops
from tests.planning.configurations import configuration

D, C = 3, 20


def counted(run: Run, mode: str, is_warmup: bool) -> int:
    """What PyTorch counts in one process, all experts being used."""
    config, signals = run.config, run.signals
    dictionary = Dictionary(config.dictionary, 2, D, torch.Generator()).requires_grad_(mode != "distill")
    experts, slots = config.dictionary.experts, config.dictionary.experts if is_warmup else config.coding.support
    values = torch.randn(signals, slots).requires_grad_(mode != "solve")
    indices = None if is_warmup else torch.stack([torch.randperm(experts)[:slots] for _ in range(signals)])
    with FlopCounterMode(display=False) as counter:
        dictionary(Code(values, torch.zeros(signals, D), indices), torch.rand(C, 2)).square().sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("mode", ["gate", "distill"])
@pytest.mark.parametrize("is_warmup", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"dictionary.strategy": "merge"},
        {"dictionary.strategy": "merge", "dictionary.shared_layers": 0},
        {"dictionary.strategy": "merge", "dictionary.shared_layers": 3},
        {"dictionary.strategy": "combine"},
        {"dictionary.private_layers": 3},
        {"dictionary.private_layers": 2, "dictionary.shared_layers": 2},
        {},
        {"training.batch": 200},
    ],
)
def test_operations_are_those_that_are_counted(changes: dict[str, Any], is_warmup: bool, mode: str) -> None:
    config = configuration({"coding.support": 8, "coding.gate.kind": "light", "objective.distill": 0.0} | changes)
    run = Run(config, D, C, 1)
    assert step_flops(run, 1, mode, is_warmup) == counted(run, mode, is_warmup)


def test_by_hand() -> None:
    config = configuration({"training.batch": 12, "coding.gate.kind": "conv", "optimizer.accumulation": 2})
    run = Run(config, D, C, 2, GateCost(forward=1000, backward=3000))
    # Of each of 2 micro-batches, 3 signals of each of 2 ranks. Trunk: 6 * 5 weights at 20 points, and their gradients,
    # without those of the encoding. Merge, by a product with 4 experts' 18 numbers, of 6 signals, and 2 gradients;
    # heads: 3 signals * 20 points * 3 channels * 5, and 2 gradients. The gate runs once more, for the statistics.
    once = 2 * (2 * 20 * 30 + 3 * 6 * 4 * 18 + 3 * 3 * 20 * 15) + 2 * 1000 + 3000
    assert step_flops(run, 2, "gate") == 2 * once


def test_a_solver_works_more_for_more() -> None:
    sizes = [step_flops(Run(configuration({"training.batch": 2**i}), D, C, 1), 1, "solve") for i in range(5)]
    sizes += [
        step_flops(Run(configuration({"dictionary.experts": 16 * 4**i}), D, C, 1), 1, "solve") for i in range(1, 9)
    ]
    assert sizes[:5] == sorted(set(sizes[:5])) and sizes[5:] == sorted(set(sizes[5:]))
    run = Run(configuration({}), D, C, 1)
    without = dataclasses.replace(run, config=configuration({"objective.distill": 0.0}))
    assert step_flops(run, 1, "distill") > step_flops(without, 1, "distill")  # the gate learns from solved codes


def test_owners_reduce_only_their_own_atoms_where_rows_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "LATENCY", 0)
    few = {"dictionary.width": 200, "training.coordinates": 2, "coding.blocks": 1, "coding.support": 8}
    run = Run(configuration(few), D, C, 4)
    assert fetches(run, 2) and fetches(run, 4)
    # At 2 points, 2 experts of 3 * 200 weights fewer; the merge, scores and systems are as much work as before.
    assert step_flops(run, 2, "solve") - step_flops(run, 4, "solve") == 2 * 2 * 2 * 600
