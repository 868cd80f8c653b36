"""The step without DeepSpeed: fairscale's OSS keeps each parameter's optimiser state on one of its replicas only.

Gradients are averaged here; fairscale's own ShardedDataParallel does not know of experts that only some ranks hold. OSS
gives every parameter, undivided, to one of the ranks that hold it, which steps it and sends it to the others: to all
ranks what is replicated, to its replicas what is sharded.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Float64
from torch import Tensor, nn

from nid_dist.parallel.engines import gradients
from nid_dist.parallel.engines.buckets import Buckets
from nid_dist.parallel.process_group_world import ProcessGroupWorld


class FairscaleEngine:
    """Several ranks, with fairscale; `accumulation` backward passes make a step."""

    def __init__(self, world: ProcessGroupWorld, accumulation: int) -> None:
        self.param_groups: list[dict[str, Any]] = []
        self._world, self._accumulation, self._passes = world, accumulation, 0

    def prepare(self, modules: Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> None:
        """Take over modules and optimiser."""
        from fairscale.optim.oss import OSS

        # Of fairscale's own calls; nothing that a user could hint.
        warnings.filterwarnings("ignore", r".*_get_global_rank. is deprecated", FutureWarning)
        self.modules = nn.ModuleList(modules)
        self._names = {parameter: name for name, parameter in self.modules.named_parameters()}
        self._trained = self._which_are_trained()
        self._shares: list[Any] = []
        for group, sharded in ((dist.group.WORLD, False), (self._world.replica_group, True)):
            groups = [dict(each) for each in optimizer.param_groups if each["sharded"] == sharded]
            if groups:
                self._shares.append(OSS(groups, type(optimizer), group, lr=groups[0]["lr"]))
        self.param_groups = [group for share in self._shares for group in share.param_groups]
        self._buckets = [
            Buckets([p for g in share.param_groups for p in reversed(g["params"])], share.group, self._world.size)
            for share in self._shares
        ]

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients."""
        self._passes += 1
        if self._passes == self._accumulation:
            for buckets in self._buckets:
                buckets.expect()
        loss.backward()

    def step(self, clip_norm: float | None, loss: Float[Tensor, ""]) -> Float64[Tensor, ""]:
        """Average, clip, step, clear; where loss or norm is not finite nothing is changed."""
        self._follow_freezing()
        gradients.complete(self._names)
        self._passes = 0
        reduced = [
            (buckets.finish(), share.world_size) for buckets, share in zip(self._buckets, self._shares, strict=True)
        ]
        norm = gradients.global_norm(reduced, loss, self._world)
        for share, (some, _) in zip(self._shares, reduced, strict=True):
            gradients.clip(some, norm, clip_norm)
            gradients.step_if_finite(share.optim, norm, share.step)
        for parameter in self._names:
            parameter.grad = None
        return norm

    def refresh(self) -> None:
        """Nothing is kept besides the parameters."""

    def state(self) -> dict[str, Tensor]:
        """Adam's moments and step counts by the parameters' names, from their owners; zeros before the first step."""
        state = {}
        for parameter, share, owner in self._owners():
            entry = {"step": torch.zeros((), device=parameter.device)} | {
                key: torch.zeros_like(parameter, requires_grad=False) for key in ("exp_avg", "exp_avg_sq")
            }
            kept = share.optim.state.get(parameter, {})
            for key, value in entry.items():
                message = kept.get(key, value).to(self._world.device, copy=True)
                dist.broadcast(message, dist.get_global_rank(share.group, owner), share.group)
                state[f"{self._names[parameter]}.{key}"] = message.to(value.device)
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the optimiser's tensors from what `state` gave, filled with other values."""
        keys = ("step", "exp_avg", "exp_avg_sq")
        for parameter, share, owner in self._owners():
            if share.rank == owner:
                name = self._names[parameter]
                share.optim.state[parameter] = {key: state[f"{name}.{key}"].clone() for key in keys}

    def _owners(self) -> Iterator[tuple[nn.Parameter, Any, int]]:
        """Every parameter, the OSS it belongs to, and which rank of its replicas keeps its state."""
        for share in self._shares:
            for rank, groups in enumerate(share.partition_parameters()):
                for parameter in (parameter for group in groups for parameter in group["params"]):
                    yield parameter, share, rank

    def _which_are_trained(self) -> list[bool]:
        return [parameter.requires_grad for parameter in self._names]

    def _follow_freezing(self) -> None:
        """OSS sends what was trained when it was last told."""
        trained = self._which_are_trained()
        if trained != self._trained:
            self._trained = trained
            for share in self._shares:
                share.buckets.clear()  # those without a trained parameter would stay otherwise
                share.refresh_trainable()


def checkpoint_gate(gate: nn.Module) -> nn.Module:
    """Let a gate compute its activations again in the backward pass instead of keeping them.

    It is a module of `values, ids` whose outputs are dataclasses of tensors; changed in place, its parameters keep
    their names.
    """
    from fairscale.nn.checkpoint import checkpoint_wrapper

    plain = gate.forward
    kinds: list[Any] = []

    class Parts(nn.Module):
        """What fairscale can run again: its outputs are tensors, and autocast is as the first time.

        Fairscale itself would compute again in float16. The casts' cache is off, as what it keeps of the first time,
        when nothing is differentiated, would be used the second time.
        """

        def __init__(self) -> None:
            super().__init__()
            self.gate = gate

        def forward(
            self, values: Tensor, ids: Tensor, anchor: Tensor, half: bool, dtype: torch.dtype
        ) -> tuple[Tensor, ...]:
            with torch.autocast(values.device.type, dtype, enabled=half, cache_enabled=False):
                output = plain(values, ids)
            kinds[:] = [type(output)]
            return tuple(vars(output).values())

    parts = checkpoint_wrapper(Parts())

    def forward(values: Tensor, ids: Tensor) -> Any:
        if not torch.is_grad_enabled() or not any(parameter.requires_grad for parameter in gate.parameters()):
            return plain(values, ids)
        device = values.device.type
        half, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        # PyTorch warns where no input requires a gradient.
        anchor = torch.zeros((), requires_grad=True)
        outputs = parts(values, ids, anchor, half, dtype)
        return kinds[0](*outputs)

    gate.forward = forward
    return gate
