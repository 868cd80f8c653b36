"""The exchange across ranks: a MoE library's differentiable all-to-all, dropless, one partial sum back per signal.

An owner receives the part of every code that concerns its experts, sums over these experts, and returns ONE partial
sum per signal: d * (h + 1) floats for merged heads, C * d for evaluated experts, whatever k is. The all-to-all has
equal splits, so rows are padded: signals to the largest batch of the group, coefficients to min(k, E), the most that
one owner can be asked for. So the sizes of all messages follow from the configuration, not from the data, nothing has
to be agreed on before sending, and nothing is ever dropped for capacity.

Codes travel while the trunk runs forward. On the way back, between GPUs, the gradients of the sums travel while one
half of the trunk runs backward, those of the codes while the other half does: autograd runs what is ready in the
reverse order of its numbers, and where these sums' gradients are waited for has the number of the trunk's middle.
Between CPUs, whose cores would have to copy beside the trunk's work, they are waited for at once: measured, that is a
few percent faster.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor

from nid_dist.code import Code
from nid_dist.parallel.exchange.collectives import all_gather
from nid_dist.parallel.exchange.exchange import Traffic
from nid_dist.parallel.exchange.topology import Topology

_ABSENT = -1  # the index of a coefficient that only fills a row up


class AllToAllExchange:
    """Experts are sharded over the R ranks of an expert-parallel group.

    Args:
        group: the expert-parallel group's process group, R ranks in the order of the experts they hold.
        transport: whose all-to-all is used; both are the same operation.
        rows: signals to which every rank's batch is padded, where all ranks know it; None: they ask each other each
            time for their largest batch.
        overlap: whether gradients travel while the trunk runs backward.
    """

    def __init__(
        self,
        topology: Topology,
        group: Any,
        transport: Literal["deepspeed", "fairscale"] = "deepspeed",
        rows: int | None = None,
        *,
        overlap: bool = False,
    ) -> None:
        self.topology, self.group, self.rows, self._overlap = topology, group, rows, overlap
        self.ranks = topology.expert_parallel_size
        self.first_expert = topology.first_expert
        self.traffic = Traffic()
        self._apply = _operation(transport)
        self._trunk = 0

    def dispatch(self, code: Code) -> Callable[[], Code]:
        """Send each owner its part of the codes; what pads arrives as not `present`, and biases stay at home: zeros."""
        rows = self._agreed(code.signals, code.values.device)
        if code.indices is None:
            parts = code.values.unflatten(1, (self.ranks, self.topology.local_experts)).transpose(0, 1)
            arriving = [self._start(_pad_rows(parts, rows, 0), "codes")]
        else:
            values, indices = _by_owner(code.values, code.indices, self.topology)
            # The indices first: they have no gradient, and the values' wait below covers both.
            arriving = [
                self._start(_pad_rows(indices, rows, _ABSENT), "codes"),
                self._start(_pad_rows(values, rows, 0), "codes"),
            ]
        channels, begin = code.bias.shape[1], _autograd_number()

        def wait() -> Code:
            self._trunk = (begin + _autograd_number()) // 2
            *places, values = [arrive().flatten(0, 1) for arrive in arriving]
            bias = values.new_zeros(len(values), channels)
            if not places:
                return Code(values, bias)
            return Code(values, bias, places[0].clamp_min(0).long(), places[0] != _ABSENT)

        return wait

    def share(self, rows: Float[Tensor, "T *rest"]) -> Float[Tensor, "S *rest"]:
        """What every rank of the group holds for its own signals, stacked and padded as `dispatch` does."""
        padded = _pad_rows(rows[None], self._agreed(len(rows), rows.device), 0)
        return self._send(padded.expand(self.ranks, *padded.shape[1:]), "coordinates").flatten(0, 1)

    def combine(self, partial: Float[Tensor, "S *rest"], signals: int) -> Float[Tensor, "T *rest"]:
        """For this rank's signals, the sum over the group of the partial sums of dispatched codes."""
        back = _Flight(self, "sums")
        parts: Tensor = _Land.apply(partial.unflatten(0, (self.ranks, len(partial) // self.ranks)), back)
        if self._overlap and parts.grad_fn is not None:
            parts.grad_fn._set_sequence_nr(self._trunk)  # type: ignore[attr-defined]
        self._check(parts)
        returned: Tensor = _Return.apply(parts, self._exchange(parts.detach(), "sums"), back)
        return returned.sum(0)[:signals]

    def gather(self, part: Shaped[Tensor, "E *rest"]) -> Shaped[Tensor, "n *rest"]:
        """What every rank of the group holds for its own experts, in the order of the experts; without gradient."""
        with self.traffic.message("atoms", part.nbytes * (self.ranks - 1), part.device):
            return all_gather(part, self.group)

    def _agreed(self, signals: int, device: torch.device) -> int:
        if self.rows is not None:
            if signals > self.rows:
                raise ValueError(f"{signals} signals in messages of {self.rows} rows")
            return self.rows
        size = torch.tensor([signals], device=device)
        dist.all_reduce(size, op=dist.ReduceOp.MAX, group=self.group)
        return int(size)

    def _send(self, parts: Shaped[Tensor, "R *rest"], kind: str) -> Shaped[Tensor, "R *rest"]:
        """Part r goes to rank r; what rank r sent comes back as part r. Differentiable."""
        self._check(parts)
        sent: Tensor = _Send.apply(self, parts, kind)
        return sent

    def _start(self, parts: Shaped[Tensor, "R *rest"], kind: str) -> Callable[[], Tensor]:
        """As `_send`, but returns at once; the function it gives waits."""
        self._check(parts)
        there, back = _Flight(self, kind), _Flight(self, kind)
        begun: Tensor | None = _Land.apply(parts, back) if self._overlap else None
        received = there.start(parts.detach())

        def arrive() -> Tensor:
            there.land()
            arrived: Tensor = _Return.apply(_Land.apply(parts, back) if begun is None else begun, received, back)
            return arrived

        return arrive

    def _exchange(self, parts: Tensor, kind: str) -> Tensor:
        with self.traffic.message(kind, self._foreign(parts), parts.device):
            return self._apply(self.group, parts.contiguous())

    def _foreign(self, parts: Tensor) -> int:
        return parts.numel() * parts.element_size() * (self.ranks - 1) // self.ranks

    def _check(self, parts: Tensor) -> None:
        # With another first axis than R the all-to-all returns garbage without an error.
        if parts.shape[0] != self.ranks:
            raise ValueError(f"all-to-all of {parts.shape[0]} parts among {self.ranks} ranks")


class _Send(torch.autograd.Function):
    """The library's all-to-all, counted and timed in both directions."""

    @staticmethod
    def forward(ctx: Any, exchange: AllToAllExchange, parts: Tensor, kind: str) -> Tensor:
        ctx.exchange, ctx.kind = exchange, kind
        return exchange._exchange(parts, kind)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        return None, ctx.exchange._exchange(grads[0], ctx.kind), None


class _Flight:
    """One all-to-all that is on its way."""

    def __init__(self, exchange: AllToAllExchange, kind: str) -> None:
        self._exchange, self._kind = exchange, kind

    def start(self, parts: Tensor) -> Tensor:
        """Send; what comes back is complete when `land` has returned."""
        self._sending = parts.contiguous()
        received = torch.empty_like(self._sending)
        self._work = dist.all_to_all_single(received, self._sending, group=self._exchange.group, async_op=True)
        return received

    def land(self) -> None:
        """Wait."""
        sent = self._exchange._foreign(self._sending)
        with self._exchange.traffic.message(self._kind, sent, self._sending.device):
            self._work.wait()
        del self._work, self._sending


class _Land(torch.autograd.Function):
    """The parts themselves; on the way back, here their gradients have to be there."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, back: _Flight) -> Tensor:
        ctx.back = back
        return parts.view_as(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        ctx.back.land()
        return grads[0], None


class _Return(torch.autograd.Function):
    """What has been received for some parts; on the way back, here their gradients are sent."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, received: Tensor, back: _Flight) -> Tensor:
        ctx.back = back
        return received

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back.start(grads[0]), None, None


def _operation(transport: str) -> Callable[[Any, Tensor], Tensor]:
    if transport == "deepspeed":
        from deepspeed.moe.sharded_moe import _AllToAll
    else:
        from fairscale.nn.moe.moe_layer import _AllToAll
    operation: Callable[[Any, Tensor], Tensor] = _AllToAll.apply
    return operation


def _autograd_number() -> int:
    """That of an operation that were done now; 0 where none is remembered."""
    node = torch.zeros((), requires_grad=True).view(1).grad_fn
    return 0 if node is None else int(node._sequence_nr())


def _by_owner(values: Tensor, indices: Tensor, topology: Topology) -> tuple[Tensor, Tensor]:
    """Sort every code by owner and lay the parts side by side: values and local indices, [R, T, min(k, E)]."""
    ranks, local = topology.expert_parallel_size, topology.local_experts
    owner = torch.div(indices, local, rounding_mode="floor")
    order = owner.argsort(dim=1, stable=True)
    owner = owner.gather(1, order)
    counts = torch.zeros(len(values), ranks, dtype=torch.long, device=values.device)
    counts.scatter_add_(1, owner, torch.ones_like(owner))
    begins = counts.cumsum(1) - counts
    slot = torch.arange(owner.shape[1], device=values.device)[None] - begins.gather(1, owner)
    signal = torch.arange(len(values), device=values.device)[:, None].expand_as(owner)
    place, longest = (owner, signal, slot), min(values.shape[1], local)
    parts = values.new_zeros(ranks, len(values), longest).index_put(place, values.gather(1, order))
    places = torch.full((ranks, len(values), longest), _ABSENT, dtype=torch.int32, device=values.device)
    places[place] = (indices.gather(1, order) - owner * local).int()
    return parts, places


def _pad_rows(parts: Shaped[Tensor, "R T *rest"], rows: int, fill: int) -> Shaped[Tensor, "R S *rest"]:
    missing = rows - parts.shape[1]
    if missing == 0:
        return parts
    return torch.cat([parts, parts.new_full((parts.shape[0], missing, *parts.shape[2:]), fill)], 1)
