"""Textbook dispatch gives the same f and the same gradients, and sends what it should."""

from typing import Any

import torch

from nid_dist.benchmarks.sharded import ShardedCase, Size, joined
from nid_dist.benchmarks.textbook import evaluate_tokens
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.local_processes import run_local
from nid_dist.parallel.world import JSON

SIZE = Size(experts=12, support=4, coordinates=9, signals=3, width=8)


def compare(launch: Launch) -> JSON:
    with joined(launch) as world:
        case = ShardedCase(world, SIZE)
        parameters = [case.dictionary.experts.rows, case.code.values, case.code.bias]
        ours = [case.step(), *(parameter.grad.clone() for parameter in parameters)]
        # The trunk is at home for ours and at the owner for theirs: equal once all ranks' gradients are added up.
        trunk = case.dictionary.trunk.layers[1].weight
        ours.append(world.all_reduce_sum(trunk.grad))
        case.exchange.traffic.reset()
        values = case.backward(evaluate_tokens(case.dictionary, case.code, case.coords))
        theirs = [values, *(parameter.grad for parameter in parameters), world.all_reduce_sum(trunk.grad)]
        errors = [
            float((one - other).norm() / other.norm().clamp_min(1e-6)) for one, other in zip(theirs, ours, strict=True)
        ]
        return {"errors": errors, "sent": case.exchange.traffic.bytes}


def test_two_ranks() -> None:
    found: list[Any] = run_local(compare, 2)
    for rank in found:
        assert max(rank["errors"]) < 1e-5
        # 3 signals, 2 experts of the other owner, 9 coordinates of 2 numbers there, 3 numbers back and their gradients.
        assert rank["sent"] == {"coordinates": 3 * 2 * 9 * 2 * 4, "codes": 3 * 2 * 4, "sums": 2 * 3 * 2 * 9 * 3 * 4}
    assert torch.tensor([rank["errors"] for rank in found]).isfinite().all()
