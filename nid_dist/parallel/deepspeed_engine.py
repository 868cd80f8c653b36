"""The step on DeepSpeed: its engine reduces gradients and, with ZeRO-1, spreads the optimiser's state over replicas.

Three things DeepSpeed leaves to its user. It clips by each rank's own norm (ZeRO-0), or by one that averages the experts'
over replicas and leaves out those of other ranks (ZeRO-1): the true norm is taken between reduction and step. ZeRO-1
steps whatever it has flattened: what is frozen is skipped. And it reduces what autograd reached, in that order, which
may differ between ranks: gradients are reduced here, at the step, once all are there.
"""

import math
import os
from argparse import Namespace
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nid_dist.parallel import gradients
from nid_dist.parallel.deepspeed_options import deepspeed_config, refuse_unreadable
from nid_dist.parallel.process_group_world import ProcessGroupWorld

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class _Part:
    """Parameters of one of the caller's groups that are frozen and stepped together: one group of DeepSpeed's."""

    group: dict[str, Any]
    parameters: list[nn.Parameter]

    @property
    def frozen(self) -> bool:
        return not any(parameter.requires_grad for parameter in self.parameters)


class DeepSpeedEngine:
    """Several ranks, driven by DeepSpeed.

    Args:
        world: all ranks.
        accumulation: micro-batches of a step.
        zero_stage: 0, or 1: each replica keeps and steps its share of the optimiser's state.
        options: DeepSpeed's own configuration, from the user.

    Raises:
        UserError: when an option contradicts the rest, or is not known.
    """

    def __init__(
        self,
        world: ProcessGroupWorld,
        accumulation: int,
        zero_stage: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.param_groups: list[dict[str, Any]] = []
        self._world, self._zero_stage = world, zero_stage
        self._config = deepspeed_config(accumulation, zero_stage, options or {})
        refuse_unreadable(self._config)
        self._engine: Any = None

    def prepare(self, modules: Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> None:
        """Take over modules and optimiser."""
        self.modules = nn.ModuleList(modules)
        self._names = {parameter: name for name, parameter in self.modules.named_parameters()}
        self._kind, self.param_groups = type(optimizer), optimizer.param_groups
        self._open([_Part(group, list(group["params"])) for group in self.param_groups])

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients."""
        # DeepSpeed prepares for a backward pass where it sees the output of a forward pass: that of the loss to itself.
        with torch.autocast(loss.device.type, enabled=False):
            output = self._engine(loss)
        self._engine.backward(output, scale_wrt_gas=False)

    def step(self, clip_norm: float | None) -> float:
        """Reduce, clip, step, clear; a step with a non-finite gradient norm changes nothing and returns that norm."""
        if self._zero_stage:
            self._refine(lambda parameter: parameter.requires_grad)
        reduced = self._reduce()
        norm = gradients.global_norm(reduced, self._world)
        if not math.isfinite(norm):
            self._engine.optimizer.zero_grad(set_to_none=True)
            return norm
        for some, _ in reduced:
            gradients.clip(some, norm, clip_norm)
        for part, group in zip(self._parts, self._inner.param_groups, strict=True):
            group["lr"], group["frozen"] = part.group["lr"], part.frozen
        self._engine.step()
        return norm

    def refresh(self) -> None:
        """Copy the parameters to where ZeRO steps them."""
        if self._zero_stage:
            self._engine.optimizer.refresh_fp32_params()

    def state(self) -> dict[str, Tensor]:
        """Adam's moments and step counts by the parameters' names; zeros before the first step."""
        entries: dict[Tensor, dict[str, Tensor]] = {}
        for index, part in enumerate(self._parts):
            entries |= self._gathered(index) if self._zero_stage else {p: self._entry(p) for p in part.parameters}
        return {
            f"{self._names[parameter]}.{key}": entries[parameter][key]
            for group in self.param_groups
            for parameter in group["params"]
            for key in ("step", *_MOMENTS)
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the optimiser's tensors from what `state` gave, filled with other values."""
        if self._zero_stage:
            self._refine(lambda parameter: float(state[f"{self._names[parameter]}.step"]))
        self._fill(state)

    @property
    def _inner(self) -> torch.optim.Optimizer:
        """The optimiser that DeepSpeed steps."""
        inner: torch.optim.Optimizer = self._engine.basic_optimizer
        return inner

    def _open(self, parts: list[_Part]) -> None:
        import deepspeed

        if self._engine is not None:
            self._engine.destroy()
        if "OMPI_COMM_WORLD_LOCAL_RANK" not in os.environ:  # which DeepSpeed reads by itself
            os.environ.setdefault("LOCAL_RANK", str(self._world.device.index or 0))
        name = f"ep_size_{self._world.topology.expert_parallel_size}"
        for part in parts:
            for parameter in part.parameters if part.group["sharded"] else ():
                parameter.allreduce, parameter.group_name = False, name
        inner = self._kind(
            [
                {**part.group, "params": list(part.parameters)} | ({"name": name, "moe": True} if part.group["sharded"] else {})
                for part in parts
            ]
        )
        inner.register_step_pre_hook(_leave_frozen)
        container = _container(self.modules, self._world.topology.expert_parallel_size, name, sharded=...)
        frozen = [parameter for parameter in self._names if not parameter.requires_grad]
        self.modules.requires_grad_(True)  # ZeRO takes in only what can be trained
        ...
