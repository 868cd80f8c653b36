"""What drives a training step: one small protocol, and its plain-PyTorch form for one process."""

import math
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Engine(Protocol):
    """Owns the optimiser: `prepare` once, then `backward` per micro-batch and `step` per optimiser step."""

    def prepare(self, modules: Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> None:
        """Take over modules and optimiser."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a micro-batch's loss, already divided by the number of micro-batches."""
        ...

    def step(self, clip_norm: float | None) -> float:
        """Clip by the global norm, step, clear the gradients; returns the norm before clipping."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The optimiser's tensors by name, to be saved or loaded in place."""
        ...


class LocalEngine:
    """Plain PyTorch in one process."""

    def prepare(self, modules: Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> None:
        """Take over modules and optimiser."""
        self.modules = nn.ModuleList(modules)
        self.optimizer = optimizer

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients."""
        loss.backward()

    def step(self, clip_norm: float | None) -> float:
        """Clip, step, clear; a step with a non-finite gradient norm changes nothing and returns that norm."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if math.isfinite(norm):
            if clip_norm is not None:
                nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """Adam's moments and step counts by the parameters' names; created as zeros before the first step."""
        names = {p: name for name, p in self.modules.named_parameters()}
        state: dict[str, Tensor] = {}
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                entry: dict[str, Any] = self.optimizer.state[parameter]
                if not entry:
                    entry["step"] = torch.tensor(0.0)
                    entry["exp_avg"] = torch.zeros_like(parameter)
                    entry["exp_avg_sq"] = torch.zeros_like(parameter)
                for key, value in entry.items():
                    state[f"{names[parameter]}.{key}"] = value
        return state
