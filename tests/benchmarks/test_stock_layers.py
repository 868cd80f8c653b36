"""The libraries' layers do what they are said to do, and use all experts evenly."""

import math
from typing import Any

import pytest
import torch

from nid_dist.benchmarks.sharded import joined
from nid_dist.benchmarks.stock_layers import DeepSpeedLayer, FairscaleLayer, counted_all_to_all
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.local_processes import run_local
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.world import JSON

EXPERTS, COORDINATES, SIGNALS, WIDTH = 4, 8, 3, 16


def evaluate(launch: Launch) -> JSON:
    torch.manual_seed(0)
    features = torch.randn(COORDINATES, WIDTH)
    tokens = features.requires_grad_().expand(SIGNALS, COORDINATES, WIDTH).flatten(0, 1)
    found: dict[str, Any] = {}
    with joined(launch) as world:
        assert isinstance(world, ProcessGroupWorld)
        for kind in (DeepSpeedLayer, FairscaleLayer):
            torch.manual_seed(1 + world.rank)
            layer = kind(world, EXPERTS, features)
            with counted_all_to_all(world.size) as sent:
                results = layer(tokens)
                results.sum().backward()
            weight, bias = (
                world.all_gather(
                    torch.stack([p for name, p in layer.named_parameters() if name.endswith(end) and "wg" not in name])
                )
                for end in ("weight", "bias")
            )
            # Coordinate c goes to the experts c and c + 1 modulo n, by a softmax of logits that differ by 2.
            expected = torch.zeros(COORDINATES, WIDTH)
            for place, share in ((0, 1 / (1 + math.exp(-2))), (1, 1 / (1 + math.exp(2)))):
                chosen = (torch.arange(COORDINATES) + place) % EXPERTS
                atoms = torch.einsum("che,ce->ch", weight.flatten(0, 1)[chosen], features) + bias.flatten(0, 1)[chosen]
                expected += share * atoms
            torch.testing.assert_close(results, expected.repeat(SIGNALS, 1))
            found[kind.__name__] = {"sent": sent, "dropped": layer.dropped(tokens)}
    return found


def test_two_ranks() -> None:
    for rank in run_local(evaluate, 2):
        assert isinstance(rank, dict)
        for layer in rank.values():
            # Each of 4 experts is first for 6 of 24 tokens and second for as many: half of 4 * 12 rows leave, 4 times.
            assert layer == {"sent": [4 * 12 * WIDTH * 4 // 2] * 4, "dropped": pytest.approx(0)}
