"""The bytes of a step on paper are those that a run counts, to the byte."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nid_dist.code import Code
from nid_dist.coding.solvers import sharded, solve_codes
from nid_dist.coding.topk import signed_top_k
from nid_dist.config.schema import Config
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.model import Model
from nid_dist.parallel.exchange.all_to_all import AllToAllExchange
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.planning.cost import fetches
from nid_dist.planning.run import (
    Run,
    encoding_width,
    expert_layers,
    feature_width,
    parameters,
    rows,
    solves,
    trunk_layers,
)
from nid_dist.samples import Samples
from tests.parallel.processes import run
from tests.planning.configurations import configuration, sent_bytes

KINDS = ("codes", "coordinates", "sums", "atoms")


D, GRID = 3, (4, 4)
C = GRID[0] * GRID[1]

DEEP = {"dictionary.private_layers": 2}
CODEBOOK = {"coding.gate.kind": "codebook"}
UNROLLED = {"coding.gate.kind": "unrolled"}
PURSUIT = {"coding.gate.kind": "pursuit", "coding.phases": [{"mode": "solve"}]}
CONV = {"coding.gate.kind": "conv"}
BF16 = {"training.precision": "bf16"}
BARE = {"dictionary.shared_layers": 0}
TWICE = {"optimizer.accumulation": 2}
# Few signals of few coordinates, large experts: the solver fetches what it needs, here all atoms.
FEW = {"dictionary.width": 200, "training.batch": 4, "training.coordinates": 2, "coding.blocks": 1, "coding.support": 8}

# What is changed in the configuration; mode; dense codes; coordinates per signal.
CASES: list[tuple[dict[str, Any], str, bool, bool]] = [
    ({}, "gate", False, False),
    ({}, "gate", True, False),
    ({}, "gate", False, True),
    ({}, "solve", False, False),
    ({}, "distill", False, False),
    (DEEP, "gate", False, False),
    (DEEP, "gate", True, False),
    (DEEP, "gate", False, True),
    (DEEP, "gate", True, True),
    (DEEP, "solve", False, False),
    (DEEP, "distill", False, True),
    (DEEP | BARE, "gate", False, True),
    (DEEP | TWICE, "distill", False, False),
    (BARE, "solve", False, False),
    (CODEBOOK | TWICE, "gate", False, False),
    (UNROLLED, "gate", False, False),
    (UNROLLED | DEEP | TWICE, "gate", False, False),
    (UNROLLED, "distill", False, False),
    (PURSUIT, "solve", False, False),
    ({"objective.distill": 0.0}, "distill", False, False),
    ({"coding.support": 8}, "gate", False, False),  # more than an owner has experts
    ({"training.batch": 9}, "solve", False, False),  # the last rank has fewer signals
    ({"dictionary.strategy": "combine"}, "gate", False, True),
    ({"training.coordinates": 5}, "solve", False, False),
    (FEW, "solve", False, False),
    (BF16, "gate", False, False),
    (BF16, "solve", False, False),
    (BF16 | CONV, "gate", False, False),
    (BF16 | CONV, "gate", True, False),
    (BF16 | UNROLLED, "distill", False, False),
    (BF16 | CONV | {"dictionary.experts": 64, "coding.support": 1}, "gate", False, False),  # gathered, not multiplied
    (BF16 | CONV | DEEP, "gate", False, False),
    (BF16 | CONV | DEEP, "gate", False, True),
    (BF16 | CONV | DEEP | BARE, "gate", False, True),
    (BF16 | DEEP, "solve", False, False),
]


def step(config: Config, mode: str, is_warmup: bool, per_signal: bool, exchange: AllToAllExchange, rank: int) -> None:
    """What a training step does with the dictionary, gradients included."""
    world = exchange.topology.world_size
    model = Model(config, channels=D, grid_shape=GRID, signals=20, exchange=exchange)
    model.dictionary.requires_grad_(mode != "distill")
    generator = torch.Generator().manual_seed(rank)
    if mode == "gate":
        model.synchronise_gate(analysis=False)
    for _ in range(config.optimizer.accumulation):
        size = config.training.batch // config.optimizer.accumulation
        signals = max(1, size * (rank + 1) // world - size * rank // world)
        values = torch.rand(signals, C, D, generator=generator)
        points = config.training.coordinates or C
        coords, target = model.coords[:points], values[:, :points]
        code = None
        if solves(config, mode):
            samples = Samples(coords, target)
            ridge, support = config.coding.ridge, model.support
            code = solve_codes(model.dictionary, samples, support, config.coding.blocks, ridge, check=False).code
        if per_signal:
            coords = torch.rand(signals, points, 2, generator=generator) * 2 - 1
        with torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision == "bf16"):
            if mode != "solve":
                output = model.gate_output(values, torch.arange(signals))
                code = Code(output.logits, output.bias)
                code = code if is_warmup else signed_top_k(output.logits, output.bias, model.support)
            assert code is not None
            loss = (model.dictionary(code, coords) - target).square().mean()
        loss.backward()


def count(rank: int, world: int, size: int) -> torch.Tensor:
    sharded.LATENCY = 0  # or experts as small as these would always be gathered
    groups = [torch.distributed.new_group(list(range(first, first + size))) for first in range(0, world, size)]
    counted = []
    for changes, mode, is_warmup, per_signal in CASES:
        config = configuration(changes)
        topology = Topology(config.dictionary.experts, world, rank, size)
        exchange = AllToAllExchange(topology, groups[rank // size], rows=rows(config, world))
        step(config, mode, is_warmup, per_signal, exchange, rank)
        assert set(exchange.traffic.bytes) <= set(KINDS)
        counted.append([exchange.traffic.bytes.get(kind, 0) for kind in KINDS])
    return torch.tensor(counted)


@pytest.mark.parametrize(("world", "size"), [(2, 2), (4, 2)])
def test_bytes_are_those_that_a_run_counts(
    tmp_path: Path, world: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded, "LATENCY", 0)
    ranks = run(count, world, tmp_path, size)
    for number, (changes, mode, is_warmup, per_signal) in enumerate(CASES):
        config = configuration(changes)
        expected = sent_bytes(Run(config, D, C, world, per_signal=per_signal), size, mode, is_warmup)
        for counted in ranks:
            found = {kind: n for kind, n in zip(KINDS, counted[number].tolist(), strict=True) if n}
            assert found == expected, (changes, mode, is_warmup, per_signal)
    assert fetches(Run(configuration(FEW), D, C, world), size)
    assert not fetches(Run(configuration({}), D, C, world), size)


def test_bytes_by_hand() -> None:
    planned = Run(configuration({"training.batch": 12, "dictionary.experts": 12}), D, C, 4)
    # 4 ranks: 3 signals each, 3 experts each, and a code of 3 may concern any owner with all of them. To each of the 3
    # others: 3 * 3 indices, as many values, as many gradients; and 3 rows of 3 * (5 + 1) numbers, and their gradients.
    assert sent_bytes(planned, 4, "gate") == {"codes": 4 * 3 * 27, "sums": 4 * 3 * 2 * 54}
    # Solved codes have no gradient; 3 experts of 18 numbers go to 3 others.
    solved = sent_bytes(planned, 4, "solve")
    assert solved == {"codes": 4 * 3 * 18, "sums": 4 * 3 * 2 * 54, "atoms": 3 * 4 * 3 * 18}
    assert sent_bytes(planned, 1, "solve") == {}


def test_tf32_rounds_factors_and_not_what_is_sent() -> None:
    for mode in ("gate", "distill", "solve"):
        plain, tf32, bf16 = (
            Run(configuration({"training.precision": each, "coding.gate.kind": "conv"}), D, C, 4)
            for each in ("fp32", "tf32", "bf16")
        )
        assert sent_bytes(plain, 4, mode) == sent_bytes(tf32, 4, mode) != sent_bytes(bf16, 4, mode)


@pytest.mark.parametrize("key", ["training.batch", "coding.support", "dictionary.width"])
def test_more_of_anything_sends_more(key: str) -> None:
    for mode in ("gate", "solve"):
        sent = [
            sum(sent_bytes(Run(configuration({"dictionary.experts": 1024, key: 2**i}), D, C, 16), 8, mode).values())
            for i in (4, 5, 6)
        ]
        assert sent[0] < sent[1] < sent[2], mode


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("shared", [0, 1, 2])
@pytest.mark.parametrize("kind", ["identity", "cosine", "positional", "fourier", "rbf", "laplacian"])
def test_sizes_are_those_of_a_dictionary(layers: int, shared: int, kind: str) -> None:
    changes = {
        "dictionary.private_layers": layers,
        "dictionary.shared_layers": shared,
        "dictionary.encoding.kind": kind,
    }
    config = configuration(changes).dictionary
    made = Dictionary(config, 2, D, torch.Generator())
    assert encoding_width(config.encoding) == made.trunk.encoding.out_dim
    assert feature_width(config) == made.trunk.out_dim
    assert parameters(trunk_layers(config)) == sum(p.numel() for p in made.trunk.parameters())
    assert 8 * parameters(expert_layers(config, D)) == sum(p.numel() for p in made.experts.parameters())
