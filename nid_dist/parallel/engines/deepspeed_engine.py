"""The step on DeepSpeed: its engine reduces gradients and, with ZeRO-1, spreads the optimiser's state over replicas.

Three things DeepSpeed leaves to its user. ZeRO-0 would clip by the mean of the ranks' norms, each with its own experts
only: the norm of all is taken here, between reduction and step. ZeRO-1 steps all that it has flattened: frozen groups
are taken out. And ZeRO-1 reduces the gradients that this rank's graph reached, so that ranks could send different
messages: here all are there before.
"""

import os
import warnings
from argparse import Namespace
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Float64
from torch import Tensor, nn

from nid_dist.parallel.engines import gradients
from nid_dist.parallel.engines.deepspeed_options import deepspeed_config, refuse_unreadable
from nid_dist.parallel.exchange.collectives import all_gather
from nid_dist.parallel.process_group_world import ProcessGroupWorld

_MOMENTS = ("exp_avg", "exp_avg_sq")
_BUCKET = 50_000_000  # floats: ZeRO takes that much memory anew in every step, with its own 5e8 2 GB


@dataclass
class _Part:
    """Parameters of one of the caller's groups that ZeRO lays out as one flat tensor."""

    group: dict[str, Any]
    parameters: list[nn.Parameter]

    @property
    def trained(self) -> bool:
        return any(parameter.requires_grad for parameter in self.parameters)


class DeepSpeedEngine:
    """Several ranks, driven by DeepSpeed, of whose configuration the user may set `options`.

    ZeRO's stage is 0, or 1: each replica keeps and steps its share of the optimiser's state.

    Raises:
        UserError: when an option contradicts the rest, or is not known.
    """

    def __init__(
        self, world: ProcessGroupWorld, accumulation: int, zero_stage: int = 0, options: Mapping[str, Any] | None = None
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
        self.param_groups = optimizer.param_groups
        self._kind: Callable[[list[dict[str, Any]]], torch.optim.Optimizer] = type(optimizer)
        self._open([_Part(group, list(group["params"])) for group in self.param_groups])

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients."""
        # DeepSpeed prepares for a backward pass at the output of its forward pass: here, that of the loss to itself.
        with torch.autocast(loss.device.type, enabled=False):
            output = self._engine(loss)
        # A view, since it divides the gradient of the output itself by the number of micro-batches.
        self._engine.backward(output.view_as(output), scale_wrt_gas=False)

    def step(self, clip_norm: float | None, loss: Float[Tensor, ""]) -> Float64[Tensor, ""]:
        """Reduce, clip, step, clear; where loss or norm is not finite nothing is changed."""
        if self._zero_stage:
            self._split(lambda parameter: parameter.requires_grad)
        reduced = self._reduce()
        norm = gradients.global_norm(reduced, loss, self._world)
        for some, _ in reduced:
            gradients.clip(some, norm, clip_norm)
        for part, group in zip(self._parts, self._engine.basic_optimizer.param_groups, strict=True):
            group["lr"], group["trained"] = part.group["lr"], part.trained
        gradients.step_if_finite(self._engine.basic_optimizer, norm, self._engine.step)
        return norm

    def refresh(self) -> None:
        """Copy the parameters' values to where ZeRO steps them."""
        if self._zero_stage:
            self._engine.optimizer.refresh_fp32_params()

    def state(self) -> dict[str, Tensor]:
        """Adam's moments and step counts by the parameters' names; zeros before the first step."""
        read = self._read_flat if self._zero_stage else self._read
        entries = {p: entry for index in range(len(self._parts)) for p, entry in read(index).items()}
        return {f"{self._names[p]}.{key}": value for p, entry in entries.items() for key, value in entry.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the optimiser's tensors from what `state` gave, filled with other values."""
        if self._zero_stage:
            self._split(lambda parameter: float(state[f"{self._names[parameter]}.step"]))
        self._write(state)

    def _open(self, parts: list[_Part]) -> None:
        """Let DeepSpeed begin anew, with one group for each part."""
        import deepspeed

        # DeepSpeed's own calls; nothing that a user could hint.
        warnings.filterwarnings("ignore", r".*all_gather_into_tensor. is deprecated", FutureWarning)
        if self._engine is not None:
            self._engine.destroy()
        device = self._world.device.index or 0
        if "OMPI_COMM_WORLD_LOCAL_RANK" not in os.environ:  # which DeepSpeed reads by itself
            os.environ.setdefault("LOCAL_RANK", str(device))
        size = self._world.topology.expert_parallel_size
        experts = {"name": f"ep_size_{size}", "moe": True}
        groups, frozen = [], []
        for part in parts:
            sharded = part.group["sharded"]
            groups.append({**part.group, "params": list(part.parameters)} | (experts if sharded else {}))
            for parameter in part.parameters:
                if sharded:
                    parameter.allreduce, parameter.group_name = False, experts["name"]  # type: ignore[attr-defined]
                # ZeRO takes in only what requires a gradient at this moment.
                if not parameter.requires_grad:
                    parameter.requires_grad_(True)
                    frozen.append(parameter)
        inner = self._kind(groups)
        inner.register_step_pre_hook(_leave_frozen)
        zero = self._config["zero_optimization"]
        parameters = sum(parameter.numel() for parameter in self._names)
        self._engine, *_ = deepspeed.initialize(
            Namespace(device_rank=device),
            _container(self.modules, any(part.group["sharded"] for part in parts), size),
            inner,
            config=self._config | {"zero_optimization": {"reduce_bucket_size": min(parameters, _BUCKET)} | zero},
        )
        # `step` reduces, after the last micro-batch.
        self._engine.enable_backward_allreduce = False
        self._engine.set_gradient_accumulation_boundary(True)
        for parameter in frozen:
            parameter.requires_grad_(False)
        self._parts = parts

    def _reduce(self) -> list[tuple[Sequence[Tensor], int]]:
        """Average gradients; those of this rank, with the number of ranks that hold the same."""
        gradients.complete(self._names)
        if self._zero_stage:
            zero = self._engine.optimizer
            zero.setup_buckets()  # as the hooks of gradients do, if any
            self._engine.allreduce_gradients()
            return [(share, 1) for share in zero.averaged_gradients.values()]
        self._engine.allreduce_gradients()
        size, ranks = self._world.size, self._world.topology.expert_parallel_size
        return [
            ([p.grad for p in part.parameters if p.grad is not None], size // ranks if part.group["sharded"] else size)
            for part in self._parts
        ]

    def _split(self, mark: Callable[[nn.Parameter], Hashable]) -> None:
        """Separate parameters of a part whose marks differ: ZeRO has one step count for them, and steps all or none."""
        finer = []
        for part in self._parts:
            marks = [mark(parameter) for parameter in part.parameters]
            for each in dict.fromkeys(marks):
                chosen = [p for p, other in zip(part.parameters, marks, strict=True) if other == each]
                finer.append(_Part(part.group, chosen))
        if len(finer) > len(self._parts):
            state = self.state()
            self._open(finer)
            self._write(state)

    def _read(self, index: int) -> dict[nn.Parameter, dict[str, Tensor]]:
        """The optimiser's entries for a part's parameters."""
        kept: Any = self._engine.basic_optimizer.state
        for parameter in self._parts[index].parameters:
            if not kept[parameter]:
                kept[parameter] |= {"step": torch.zeros((), device=parameter.device)}
                kept[parameter] |= {key: torch.zeros_like(parameter) for key in _MOMENTS}
        return {parameter: kept[parameter] for parameter in self._parts[index].parameters}

    def _read_flat(self, index: int) -> dict[nn.Parameter, dict[str, Tensor]]:
        """The same, put together from the replicas' shares."""
        zero = self._engine.optimizer
        share, group = zero.single_partition_of_fp32_groups[index], zero.real_dp_process_group[index]
        kept = zero.optimizer.state.get(share, {})
        step = kept.get("step", torch.zeros((), device=share.device))
        entries: dict[nn.Parameter, dict[str, Tensor]] = {
            p: {"step": step.clone()} for p in self._parts[index].parameters
        }
        for key in _MOMENTS:
            whole = all_gather(kept.get(key, torch.zeros_like(share)), group)
            for parameter, place in self._places(index):
                entries[parameter][key] = whole[place].view_as(parameter).clone()
        return entries

    def _write(self, state: Mapping[str, Tensor]) -> None:
        """Overwrite the optimiser's entries."""
        for index, part in enumerate(self._parts):
            if not self._zero_stage:
                for parameter, entry in self._read(index).items():
                    for key, value in entry.items():
                        value.copy_(state[f"{self._names[parameter]}.{key}"])
                continue
            zero = self._engine.optimizer
            share, rank = zero.single_partition_of_fp32_groups[index], dist.get_rank(zero.real_dp_process_group[index])
            kept = {"step": state[f"{self._names[part.parameters[0]]}.step"].clone()}
            for key in _MOMENTS:
                whole = torch.zeros_like(zero.bit16_groups_flat[index])
                for parameter, place in self._places(index):
                    whole[place] = state[f"{self._names[parameter]}.{key}"].flatten()
                kept[key] = zero.get_data_parallel_partitions(whole, index)[rank].clone()
            zero.optimizer.state[share] = kept

    def _places(self, index: int) -> list[tuple[nn.Parameter, slice]]:
        """Where a part's parameters lie in ZeRO's flat tensor."""
        zero = self._engine.optimizer
        placed = zip(zero.round_robin_bit16_groups[index], zero.round_robin_bit16_offsets[index], strict=True)
        return [(parameter, slice(first, first + parameter.numel())) for parameter, first in placed]


def _leave_frozen(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Without a gradient Adam leaves a parameter, its moments and its step count as they are."""
    for group in optimizer.param_groups:
        for parameter in () if group["trained"] else group["params"]:
            parameter.grad = None


def _container(modules: nn.ModuleList, sharded: bool, size: int) -> nn.Module:
    """What DeepSpeed takes for the model.

    It reduces expert gradients only where it finds an instance of its own MoE layer, whose constructor would make gates
    and experts that are not wanted here.
    """
    from deepspeed.moe.layer import MoE

    class Container(MoE if sharded else nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.model = modules
            self.ep_size, self.expert_group_name = size, f"ep_size_{size}"
            self.num_experts = self.num_local_experts = 1

        def set_deepspeed_parallelism(self, use_data_before_expert_parallel_: bool = False) -> None:
            """The groups are there."""

        def to(self, *_: Any, **__: Any) -> "Container":
            """All is where it belongs, and as what it is to be: nothing is converted."""
            return self

        def forward(self, loss: Tensor) -> Tensor:
            return loss

    return Container()
