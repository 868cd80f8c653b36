"""Forward-only messages between solvers and the experts' owners: residuals out, candidates back, rows by index.

They are counted as `atoms`. Every function is called by all ranks that share the experts. What goes to all of them is
padded to `padded` signals; rows of experts are not padded: each rank gets those it asks for, and each of them once.
"""

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from nid_dist.parallel.exchange.all_to_all import AllToAllExchange
from nid_dist.parallel.exchange.exchange import Exchange


def padded_signals(exchange: Exchange, signals: int, device: torch.device) -> int:
    """The largest batch of the ranks that share the experts: at least T, which may be 0, and the same on all ranks.

    The exchange's `rows` say so where they are set; else the ranks ask each other.

    Raises:
        ValueError: for more signals than the exchange has rows.
    """
    rows = exchange.rows if isinstance(exchange, AllToAllExchange) else signals
    if rows is None:
        return int(exchange.gather(torch.tensor([signals], device=device)).max())
    if signals > rows:
        raise ValueError(f"{signals} signals in messages of {rows} rows")
    return rows


def to_all(
    exchange: Exchange, rows: Shaped[Tensor, "T *rest"], padded: int, fill: int = 0
) -> Shaped[Tensor, "S *rest"]:
    """What every rank holds for its own signals, padded and stacked by rank: S = R * padded rows, on all ranks."""
    missing = rows.new_full((padded - len(rows), *rows.shape[1:]), fill)
    return exchange.gather(torch.cat([rows, missing]))


def back_home(exchange: Exchange, answers: Shaped[Tensor, "S *rest"]) -> Shaped[Tensor, "R rows *rest"]:
    """Return to every rank the answers about its signals, which this owner has in the order of `to_all`.

    Returns:
        Each owner's answers about this rank's signals, padded rows included.
    """
    if exchange.ranks == 1:
        return answers[None]
    parts = [len(answers) // exchange.ranks] * exchange.ranks
    return _all_to_all(exchange, answers, parts, parts).unflatten(0, (exchange.ranks, parts[0]))


def from_first(exchange: Exchange, tensor: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """The tensor that the first of the ranks has, on all of them, equal to the last bit."""
    if exchange.ranks == 1:
        return tensor
    assert isinstance(exchange, AllToAllExchange)
    received = tensor.contiguous().clone()
    others = exchange.ranks - 1 if exchange.first_expert == 0 else 0
    with exchange.traffic.message("atoms", received.nbytes * others, received.device):
        dist.broadcast(received, dist.get_global_rank(exchange.group, 0), group=exchange.group)
    return received


class FetchedRows:
    """A table with one row per expert, sharded as the experts are, of which rows are fetched when first asked for.

    Owners see what every rank asks for, so a rank's rows come without being listed again, and none comes twice. `rows`
    are what this rank has fetched so far; a rank has at most `padded` signals (`padded_signals`).
    """

    def __init__(self, exchange: Exchange, owned: Float[Tensor, "E p"], padded: int) -> None:
        self.exchange, self.owned, self.padded = exchange, owned, padded
        self.rows = owned.new_zeros(0, owned.shape[1])
        self._sent = torch.zeros(exchange.ranks, len(owned), dtype=torch.bool, device=owned.device)
        self._places = torch.full((exchange.ranks * len(owned),), -1, device=owned.device)

    def fetch(self, indices: Int[Tensor, "T k"]) -> Bool[Tensor, "S E"]:
        """Add what is missing to `rows`.

        Args:
            indices: the experts whose rows each signal of this rank needs; k is the same on all ranks.

        Returns:
            Which of the experts held here each signal of all ranks asked for, in the order of `to_all`.
        """
        ranks = self.exchange.ranks
        asked = self._asked(indices)
        wanted = asked.unflatten(0, (ranks, self.padded)).any(1) & ~self._sent
        self._sent |= wanted
        new = torch.zeros_like(self._places, dtype=torch.bool).index_fill_(0, indices.flatten().long(), True)
        new &= self._places < 0
        # Both ends list a rank's rows in ascending order, so that they lie where the places say.
        self._places = torch.where(new, len(self.rows) + new.cumsum(0) - 1, self._places)
        # Once a GPU is waited for: messages have as many rows as are asked for.
        sends, coming = torch.stack([wanted.sum(1), new.unflatten(0, (ranks, -1)).sum(1)]).tolist()
        arrived = self.owned[wanted.nonzero_static(size=sum(sends))[:, 1]]
        if ranks > 1:
            arrived = _all_to_all(self.exchange, arrived, sends, coming)
        self.rows = torch.cat([self.rows, arrived])
        return asked

    def places(self, indices: Int[Tensor, "T k"]) -> Int[Tensor, "T k"]:
        """Where in `rows` the rows of some experts are that have been fetched."""
        return self._places[indices]

    def _asked(self, indices: Int[Tensor, "T k"]) -> Bool[Tensor, "S E"]:
        local = to_all(self.exchange, indices.int(), self.padded, fill=-1).long() - self.exchange.first_expert
        experts = len(self.owned)
        # One more column takes what others own, and what only pads.
        asked = torch.zeros(len(local), experts + 1, dtype=torch.bool, device=local.device)
        asked.scatter_(1, local.masked_fill((local < 0) | (local >= experts), experts), True)
        return asked[:, :experts]


def _all_to_all(
    exchange: Exchange, rows: Shaped[Tensor, "sent *rest"], sends: list[int], receives: list[int]
) -> Shaped[Tensor, "received *rest"]:
    """The first sends[0] rows go to rank 0, the next sends[1] to rank 1 ...; what arrives is in the ranks' order."""
    assert isinstance(exchange, AllToAllExchange)
    # Where the numbers of rows do not fit, an all-to-all returns garbage or waits for ever.
    assert sum(sends) == len(rows) and len(sends) == len(receives) == exchange.ranks
    received = rows.new_empty(sum(receives), *rows.shape[1:])
    foreign = len(rows) - sends[dist.get_rank(exchange.group)]
    with exchange.traffic.message("atoms", foreign * rows[:1].nbytes, rows.device):
        dist.all_to_all_single(received, rows.contiguous(), receives, sends, group=exchange.group)
    return received
