"""Codes over sharded experts against the solvers of one process, with the bytes that they cost."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from nid_dist.coding.solvers import (
    Problem,
    Solution,
    reduce_problem,
    sharded,
    solve_codes,
    solve_omp,
    solve_omp_sharded,
    solve_ridge,
)
from nid_dist.coding.solvers.ridge import SingularSystem
from nid_dist.coding.solvers.sharded import fetching_is_cheaper
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Sampling
from nid_dist.parallel.exchange.all_to_all import AllToAllExchange
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.samples import Samples
from tests.dictionary import oracle
from tests.parallel.processes import run

R, H, D, K = 2, 6, 2, 5
# Private layers, experts, measurements: more and fewer than features or experts.
FORMS = {
    "heads, many measurements": (1, 20, 40),
    "heads, few measurements": (1, 20, 4),
    "many heads": (1, 300, 40),
    "deep, few measurements": (2, 20, 8),
    "deep, many measurements": (2, 20, 40),
    "many deep": (2, 300, 8),
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def whole(form: str, dtype: torch.dtype = torch.float64) -> tuple[Dictionary, Sampling, torch.Tensor]:
    """A dictionary, where signals are measured, and six signals."""
    layers, experts, count = FORMS[form]
    dictionary = oracle.make_dictionary(
        d=D, experts=experts, width=H, private_layers=layers, shared_layers=1, features=8, seed=1
    )
    generator = torch.Generator().manual_seed(2)
    coords = 2 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 1
    signals = torch.rand(6, count, D, generator=generator, dtype=torch.float64)
    return dictionary.to(dtype), Sampling(coords.to(dtype)), signals.to(dtype)


def shard(dictionary: Dictionary, exchange: AllToAllExchange) -> Dictionary:
    sharded = copy.deepcopy(dictionary)
    sharded.exchange = exchange
    sharded._keep_owned()
    return sharded


def codes(dictionary: Dictionary, measurement: Sampling, signals: torch.Tensor, *options: float) -> Solution:
    return solve_codes(dictionary, Samples(measurement.coords, signals), *options)


def make_exchange(rank: int, world: int, experts: int, rows: int | None = None) -> AllToAllExchange:
    groups = [dist.new_group(list(range(first, first + R))) for first in range(0, world, R)]
    topology = Topology(experts, world_size=world, rank=rank, expert_parallel_size=R)
    return AllToAllExchange(topology, groups[rank // R], rows=rows)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = TOLERANCE[found.dtype]
    # Relative to the largest number: what cancels to a smaller one carries the rounding of what it is made of.
    largest = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * max(largest, 1e-3))


def same(found: Solution, expected: Solution, indices: torch.Tensor | None = None) -> None:
    """Equal supports, in their order, values, biases, residuals and logs."""
    assert torch.equal(found.code.indices if indices is None else indices, expected.code.indices)
    close(found.code.values, expected.code.values)
    close(found.code.bias, expected.code.bias)
    close(found.residual, expected.residual)
    assert len(found.log) == len(expected.log)
    tolerance = TOLERANCE[found.residual.dtype]
    for one, other in zip(found.log, expected.log, strict=True):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance * 1e-3, nan_ok=True)


def one_rank(rank: int, world: int, splits: list[list[int]]) -> dict[str, torch.Tensor]:
    sharded.LATENCY = 0  # or these small dictionaries would always be gathered
    exchanges = {(n, rows): make_exchange(rank, world, n, rows) for n in (20, 300) for rows in (None, 6)}
    sent = {}
    for form in FORMS:
        for number, split in enumerate(splits):
            for dtype in TOLERANCE:
                dictionary, measurement, signals = whole(form, dtype)
                mine = signals[sum(split[:rank]) : sum(split[: rank + 1])]
                expected = reduce_problem(dictionary, measurement, mine)
                exchange = exchanges[dictionary.num_experts, None if number % 2 else 6]
                arguments = shard(dictionary, exchange), measurement, mine
                for blocks in (1, 3, None) if number == 0 else (3,):
                    same(solve_omp_sharded(*arguments, K, blocks, 1e-2), solve_omp(expected, K, blocks, 1e-2))
                exchange.traffic.reset()
                same(codes(*arguments, K, 3, 1e-2), solve_omp(expected, K, 3, 1e-2))
                sent[f"{form}, {number}, {dtype}"] = torch.tensor(exchange.traffic.bytes["atoms"])
    # All atoms: no owner has enough to fill a block, and a large ridge leaves those taken correlated with what is left.
    dictionary, measurement, signals = whole("heads, many measurements")
    arguments = shard(dictionary, exchanges[20, None]), measurement, signals[rank : rank + 1]
    expected = reduce_problem(dictionary, *arguments[1:])
    for blocks in (1, 3):
        same(solve_omp_sharded(*arguments, 1000, blocks, 1.0), solve_omp(expected, 1000, blocks, 1.0))
    # 20 atoms in 12 dimensions; only the last rank has a signal, and all learn of it.
    for solve in (codes, solve_omp_sharded):
        with pytest.raises(SingularSystem, match="signal 0: found a singular system"):
            solve(*arguments[:2], signals[: (rank + 1) % R == 0], 20, 2, 0.0)
    return sent


@pytest.mark.parametrize(
    ("world", "splits"), [(2, [[3, 3], [5, 1], [0, 6], [0, 0]]), (4, [[2, 2, 1, 1], [0, 3, 3, 0], [6, 0, 0, 0]])]
)
def test_shards_equal_one_process(tmp_path: Path, world: int, splits: list[list[int]]) -> None:
    ranks = run(one_rank, world, tmp_path, splits)
    for sent in ranks:
        for form, (layers, experts, _) in FORMS.items():
            # Where messages have 6 rows; else the choice follows the group's largest batch.
            for number in range(0, len(splits), 2):
                # Gathering sends n / R experts to the other rank, and a flag.
                numbers = D * (H + 1) if layers == 1 else 4 * H + 4 + D * 4 + D
                gathering = experts // R * numbers * 4 + 8
                found = sent[f"{form}, {number}, torch.float32"]
                assert found == gathering if experts == 20 else found < gathering, form


def counted(rank: int, world: int, form: str, k: int, blocks: int) -> dict[str, torch.Tensor]:
    dictionary, measurement, signals = whole(form)
    exchange = make_exchange(rank, world, dictionary.num_experts)
    mine = signals[:4] if rank == 0 else signals[4:]
    solution = solve_omp_sharded(shard(dictionary, exchange), measurement, mine, k, blocks)
    assert set(exchange.traffic.bytes) == {"atoms"}
    return {"indices": solution.code.indices, "bytes": torch.tensor(sum(exchange.traffic.bytes.values()))}


def test_bytes_are_those_of_the_messages(tmp_path: Path) -> None:
    k, blocks, padded, dim = 6, 2, 4, H * D
    ranks = run(counted, 2, tmp_path, "heads, many measurements", k, blocks)
    # In each block 4 residuals, 4 * 3 scores and indices, all in float64, and 4 * 3 choices in int32; besides, the
    # largest batch, two norms and a flag of 8 bytes each.
    common = blocks * padded * (dim * 8 + 3 * 2 * 8 + 3 * 4) + 4 * 8
    for rank, found in enumerate(ranks):
        wanted = ranks[1 - rank]["indices"].unique()
        rows = int((wanted // 10 == rank).sum())
        spectrum = (H + 1) * H * 8 if rank == 0 else 0
        assert found["bytes"] == common + rows * (dim + D) * 8 + spectrum


def test_the_choice_by_hand(monkeypatch):
    # Two blocks of four messages, each as long as 7 numbers: 56 numbers.
    monkeypatch.setattr(sharded, "LATENCY", 7)
    # One other rank of four: 5 signals * (2 residuals of 20 + 3 * 10), and 48 * 20 / 4 of rows: 590 numbers more.
    sizes = {"ranks": 4, "signals": 5, "support": 10, "blocks": 2, "atom_floats": 20}
    assert fetching_is_cheaper(experts=48, expert_floats=55, common_floats=13, **sizes)  # 12 * 55 = 660
    assert not fetching_is_cheaper(experts=48, expert_floats=55, common_floats=14, **sizes)
    # No more rows are fetched than signals have coefficients: 56 + 350 + 50 * 20 / 4 = 656 numbers.
    assert fetching_is_cheaper(experts=4 * 657, expert_floats=1, **sizes)
    assert not fetching_is_cheaper(experts=4 * 656, expert_floats=1, **sizes)


def test_one_process_takes_the_plain_way(setting):
    arguments = setting.dictionary, setting.measurement, setting.signals
    expected = solve_omp(reduce_problem(*arguments), 5, 2)
    for solve in (codes, solve_omp_sharded):
        same(solve(*arguments, 5, 2), expected)


def test_the_energy_of_a_part_is_that_of_the_whole():
    atoms = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    zeros = torch.zeros(2, 1), torch.zeros(1, 1), torch.zeros(1)
    problem = Problem(atoms, torch.tensor([[6.0, 8.0]]), *zeros)
    assert problem.energy == 13
    part = dataclasses.replace(problem, atoms=atoms[:1], atom_means=zeros[0][:1])
    # Atom (3, 4) of square 25, signal twice the atom: 50 / (25 + weight * 13).
    for p in (problem, part, part.signals(slice(0, 1))):
        assert solve_ridge(p, torch.tensor([[0]]), 2.0).code.values.item() == pytest.approx(50 / 51)


def test_a_problem_of_some_experts_is_refused():
    dictionary, measurement, signals = whole("heads, many measurements")
    dictionary.exchange = AllToAllExchange(Topology(20, world_size=2, expert_parallel_size=2), None)
    with pytest.raises(ValueError, match="some experts only"):
        reduce_problem(dictionary, measurement, signals)
