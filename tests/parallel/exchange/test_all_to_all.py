"""Sharded experts against one process: outputs and every gradient, bytes, idle ranks and uneven batches."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from nid_dist.code import Code
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.parallel.exchange.all_to_all import AllToAllExchange
from nid_dist.parallel.exchange.exchange import Exchange, LocalExchange
from nid_dist.parallel.exchange.topology import Topology
from tests.parallel.processes import run

N, K, D, BATCH, C = 8, 3, 2, 6, 10


def make(exchange: Exchange, layers: int) -> Dictionary:
    config = DictionaryConfig(
        experts=N, width=5, shared_layers=1, private_layers=layers, private_width=4, encoding=Encoding(features=6)
    )
    return Dictionary(config, 2, D, torch.Generator().manual_seed(3), exchange).double()


def problem(case: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The global batch: values, indices, biases, coordinates, upstream gradient."""
    generator = torch.Generator().manual_seed(11)
    indices = torch.rand(BATCH, N, generator=generator).topk(K, dim=1).indices
    if case == "idle":
        # The experts of every rank but the first get no work.
        indices = torch.rand(BATCH, N // 4, generator=generator).topk(2, dim=1).indices
    values = torch.randn(indices.shape, generator=generator, dtype=torch.float64)
    if case == "dense":
        values = torch.randn(BATCH, N, generator=generator, dtype=torch.float64)
    bias = torch.randn(BATCH, D, generator=generator, dtype=torch.float64)
    shape = (BATCH, C, 2) if case == "per signal" else (C, 2)
    coords = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    return values, indices, bias, coords, torch.randn(BATCH, C, D, generator=generator, dtype=torch.float64)


def gradients(dictionary: Dictionary, case: str, part: slice) -> dict[str, torch.Tensor]:
    values, indices, bias, coords, upstream = problem(case)
    values = values[part].requires_grad_()
    local = coords[part] if coords.dim() == 3 else coords
    code = Code(values, bias[part], None if case == "dense" else indices[part])
    found = dictionary(code, local)
    (found * upstream[part]).sum().backward()
    results = {"f": found.detach(), "values": values.grad}
    return results | {f"grad.{name}": p.grad for name, p in dictionary.named_parameters()}


def parts_of(world: int, case: str) -> list[slice]:
    if case == "uneven":
        # The first rank has all but one signal; the last has none when there are more than two.
        return [slice(0, BATCH - 1), slice(BATCH - 1, BATCH)] + [slice(BATCH, BATCH)] * (world - 2)
    return [slice(rank * BATCH // world, (rank + 1) * BATCH // world) for rank in range(world)]


def one_rank(rank: int, world: int, size: int, layers: int, case: str) -> dict[str, torch.Tensor]:
    groups = [dist.new_group(list(range(first, first + size))) for first in range(0, world, size)]
    topology = Topology(N, world_size=world, rank=rank, expert_parallel_size=size)
    exchange = AllToAllExchange(topology, groups[rank // size])
    results = gradients(make(exchange, layers), case, parts_of(world, case)[rank])
    # As between GPUs.
    overlapping = AllToAllExchange(topology, groups[rank // size], overlap=True)
    for name, value in gradients(make(overlapping, layers), case, parts_of(world, case)[rank]).items():
        torch.testing.assert_close(value, results[name], rtol=1e-12, atol=1e-12)
    sent = torch.tensor([exchange.traffic.bytes.get(kind, 0) for kind in ("codes", "sums")])
    whole = make(exchange, layers).unsharded()
    atoms = {f"whole.{name}": p for name, p in whole.experts.state_dict().items()}
    return results | {"bytes": sent, "size": torch.tensor(whole.experts.num_experts)} | atoms


@pytest.mark.parametrize(
    ("world", "size", "layers", "case"),
    [
        (2, 2, 1, "even"),
        (2, 2, 2, "even"),
        (2, 2, 1, "per signal"),
        (2, 2, 2, "per signal"),
        (2, 2, 1, "dense"),
        (2, 2, 1, "uneven"),
        (4, 2, 1, "uneven"),
        (4, 4, 1, "idle"),
        (4, 4, 2, "idle"),
    ],
)
def test_shards_equal_one_process(tmp_path: Path, world: int, size: int, layers: int, case: str) -> None:
    alone = gradients(make(LocalExchange(), layers), case, slice(0, BATCH))
    ranks = run(one_rank, world, tmp_path, size, layers, case)
    for name in ("f", "values"):
        torch.testing.assert_close(torch.cat([r[name] for r in ranks]), alone[name], rtol=1e-10, atol=1e-12)
    for name in alone:
        if name.startswith("grad.trunk"):
            found = sum(r[name] for r in ranks)
        elif name.startswith("grad.experts"):
            replicas = [torch.cat([r[name] for r in ranks[first : first + size]]) for first in range(0, world, size)]
            found = sum(replicas)
        else:
            continue
        torch.testing.assert_close(found, alone[name], rtol=1e-10, atol=1e-12)
    experts = make(LocalExchange(), layers).experts.state_dict()
    for found in ranks:
        assert int(found["size"]) == N
        assert all(torch.equal(found[f"whole.{name}"], value) for name, value in experts.items())


def test_bytes_sent_are_those_of_the_messages(tmp_path: Path) -> None:
    ranks = run(one_rank, 2, tmp_path, 2, 1, "dense")
    # Half of every message goes to the other rank. Codes: [2, 3, 4] numbers forward, the same back; partial sums of
    # d * (h + 1) = 12 numbers: [2, 3, 12], and the same back. In float64.
    assert [r["bytes"].tolist() for r in ranks] == [[8 * 3 * 4 * 2, 8 * 3 * 12 * 2]] * 2


def test_sparse_messages_have_the_same_size_whatever_the_codes(tmp_path: Path) -> None:
    # min(k, E) = 3 places to each of 2 ranks for 3 signals: values of 8 bytes, there and back, and indices of 4.
    ranks = run(one_rank, 2, tmp_path, 2, 1, "even")
    assert [int(r["bytes"][0]) for r in ranks] == [3 * 3 * (8 * 2 + 4)] * 2
