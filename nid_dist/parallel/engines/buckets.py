"""Gradients averaged over ranks in buckets, each sent as soon as the backward pass has found all that is in it."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_FLOATS = 2**22


class Buckets:
    """Parameters whose gradients are averaged, those that are trained: all ranks train the same ones.

    Buckets are sent in the same order by all ranks, so that the first one that is not complete holds up the others;
    what this rank's loss leaves out, `finish` sends.

    Args:
        parameters: in the order in which a backward pass finds their gradients, about.
        group: the process group of those that hold the same parameters; None: all.
        ranks: the divisor: all ranks, also where only some hold the parameters.
        floats: in one message at most, where a single gradient is not larger.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], group: Any, ranks: int, floats: int = _FLOATS) -> None:
        self._parameters, self._group, self._ranks, self._floats = list(parameters), group, ranks, floats
        self._alone = dist.get_world_size(group) == 1
        self._hooked: set[nn.Parameter] = set()
        self._trained: list[bool] = []
        self._expecting = False

    def expect(self) -> None:
        """The next backward pass is the step's last."""
        self._follow_freezing()
        self._missing = [set(bucket) for bucket in self._buckets]
        self._sent: list[tuple[Tensor, Any]] = []
        self._expecting = True

    def finish(self) -> list[Tensor]:
        """Wait for the averages, which are now the parameters' gradients; every trained parameter has one."""
        if not self._expecting:
            self.expect()
        self._expecting = False
        gradients = [_gradient(parameter) for bucket in self._buckets for parameter in bucket]
        if not gradients:
            return []
        if self._alone:
            torch._foreach_div_(gradients, self._ranks)
            return gradients
        while len(self._sent) < len(self._buckets):
            self._send()
        averages: list[Tensor] = []
        for bucket, (flat, work) in zip(self._buckets, self._sent, strict=True):
            work.wait()
            flat /= self._ranks
            parts = flat.split([parameter.numel() for parameter in bucket])
            averages += [part.view_as(parameter) for part, parameter in zip(parts, bucket, strict=True)]
        self._sent.clear()
        torch._foreach_copy_(gradients, averages)
        return gradients

    def _found(self, parameter: Tensor) -> None:
        """The hook of a gradient to which a backward pass has added all that it has."""
        if not self._expecting or self._alone:
            return
        place = self._places[parameter]
        if place < len(self._sent):
            raise RuntimeError("a gradient was added to after it had been sent")
        self._missing[place].discard(parameter)
        while len(self._sent) < len(self._buckets) and not self._missing[len(self._sent)]:
            self._send()

    def _send(self) -> None:
        flat = torch.cat([_gradient(parameter).reshape(-1) for parameter in self._buckets[len(self._sent)]])
        self._sent.append((flat, dist.all_reduce(flat, group=self._group, async_op=True)))

    def _follow_freezing(self) -> None:
        trained = [parameter.requires_grad for parameter in self._parameters]
        if trained == self._trained:
            return
        self._trained, some = trained, [p for p in self._parameters if p.requires_grad]
        self._buckets = _buckets(some, self._floats)
        self._places: dict[Tensor, int] = {p: place for place, bucket in enumerate(self._buckets) for p in bucket}
        for parameter in some:
            if parameter not in self._hooked:  # a parameter that is frozen takes no hook
                parameter.register_post_accumulate_grad_hook(self._found)
                self._hooked.add(parameter)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _buckets(parameters: Sequence[nn.Parameter], floats: int) -> list[list[nn.Parameter]]:
    """Consecutive parameters of one dtype, up to so many floats."""
    buckets: list[list[nn.Parameter]] = []
    for parameter in parameters:
        last = buckets[-1] if buckets else []
        fits = sum(other.numel() for other in last) + parameter.numel() <= floats
        if last and last[0].dtype == parameter.dtype and fits:
            last.append(parameter)
        else:
            buckets.append([parameter])
    return buckets
