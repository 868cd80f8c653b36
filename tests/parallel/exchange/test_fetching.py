"""Messages between solvers and the experts' owners, against plain indexing; what they send is counted."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from nid_dist.parallel.exchange.all_to_all import AllToAllExchange
from nid_dist.parallel.exchange.exchange import LocalExchange
from nid_dist.parallel.exchange.fetching import FetchedRows, back_home, from_first, padded_signals, to_all
from nid_dist.parallel.exchange.topology import Topology
from tests.parallel.processes import run

# Six experts on two ranks: rows 0 to 2 are the first's.
TABLE = torch.arange(6.0)[:, None] * torch.tensor([1.0, 10.0])
ASKED = (
    (torch.tensor([[4, 0], [5, 4]]), torch.tensor([[3, 2]])),
    (torch.tensor([[5, 1], [4, 0]]), torch.tensor([[3, 2]])),
)
CPU = torch.device("cpu")


def one_rank(rank: int, world: int) -> dict[str, torch.Tensor]:
    topology = Topology(6, world_size=world, rank=rank, expert_parallel_size=world)
    exchange = AllToAllExchange(topology, dist.group.WORLD)
    found = {"padded": torch.tensor(padded_signals(exchange, 2 - rank, CPU))}
    signals = torch.tensor([[1.0, 2.0], [3.0, 4.0]]) if rank == 0 else torch.tensor([[5.0, 6.0]])
    found["to all"] = to_all(exchange, signals, 2, fill=7)
    exchange.traffic.reset()
    # Owner r answers 100 r + 10 s + i about signal i of rank s.
    found["back home"] = back_home(exchange, 100 * rank + torch.tensor([0, 1, 10, 11]))
    found["first"] = from_first(exchange, torch.full((3,), float(rank)))
    found["bytes back home and first"] = torch.tensor(exchange.traffic.bytes["atoms"])
    exchange.traffic.reset()
    owned = TABLE[3 * rank : 3 * rank + 3]
    table = FetchedRows(exchange, owned, 2)
    for step, asked in enumerate(ASKED):
        found[f"owners {step}"] = table.fetch(asked[rank])
        found[f"rows {step}"] = table.rows[table.places(asked[rank])]
    found["size"] = torch.tensor(len(table.rows))
    found["bytes"] = torch.tensor(exchange.traffic.bytes["atoms"])
    # One rank has no signals, and then none has.
    for case, signals in (("one idle", 2 - 2 * rank), ("all idle", 0)):
        table = FetchedRows(exchange, owned, padded_signals(exchange, signals, CPU))
        table.fetch(torch.tensor([[1, 5]]).expand(signals, 2))
        found[case] = table.rows
    return found


def test_two_ranks(tmp_path: Path) -> None:
    first, second = run(one_rank, 2, tmp_path)
    for found in (first, second):
        assert found["padded"] == 2
        assert found["to all"].tolist() == [[1, 2], [3, 4], [5, 6], [7, 7]]
        assert found["first"].tolist() == [0, 0, 0]
    assert first["back home"].tolist() == [[0, 1], [100, 101]]
    assert second["back home"].tolist() == [[10, 11], [110, 111]]
    # Two answers of eight bytes go to the other rank, and three numbers of four bytes from the first.
    assert (first["bytes back home and first"], second["bytes back home and first"]) == (16 + 12, 16)
    for step, asked in enumerate(ASKED):
        for found, indices in zip((first, second), asked, strict=True):
            assert torch.equal(found[f"rows {step}"], TABLE[indices])
        everyone = torch.cat([*asked, torch.tensor([[-1, -1]])])
        expected = (everyone[:, :, None] == torch.arange(6)).any(1)
        owners = torch.cat([first[f"owners {step}"], second[f"owners {step}"]], 1)
        assert torch.equal(owners, expected)
    # The first asked for 0, 4, 5 and then for 1; the second twice for 2 and 3.
    assert (first["size"], second["size"]) == (4, 2)
    # Two times two signals of two int32 each, and rows of two floats: 2 from the first rank, 4 and 5 from the second.
    assert (first["bytes"], second["bytes"]) == (2 * 16 + 8, 2 * 16 + 2 * 8)

    assert torch.equal(first["one idle"], TABLE[[1, 5]])
    assert [len(found["all idle"]) for found in (first, second)] == [0, 0] == [len(second["one idle"]), 0]


def test_in_one_process_nothing_is_sent():
    exchange = LocalExchange()
    rows = torch.rand(3, 2)
    assert padded_signals(exchange, 3, CPU) == 3
    assert torch.equal(to_all(exchange, rows, 3), rows)
    assert torch.equal(back_home(exchange, rows), rows[None])
    assert from_first(exchange, rows) is rows
    table = FetchedRows(exchange, TABLE, 2)
    indices = torch.tensor([[5, 1], [1, 2]])
    asked = table.fetch(indices)
    assert asked.nonzero().tolist() == [[0, 1], [0, 5], [1, 1], [1, 2]]
    assert torch.equal(table.rows[table.places(indices)], TABLE[indices])
    assert sum(exchange.traffic.bytes.values()) == 0


def test_more_signals_than_the_messages_have_rows_are_refused():
    exchange = AllToAllExchange(Topology(6, world_size=2, expert_parallel_size=2), None, rows=2)
    assert padded_signals(exchange, 1, CPU) == 2
    with pytest.raises(ValueError, match="3 signals in messages of 2 rows"):
        padded_signals(exchange, 3, CPU)
