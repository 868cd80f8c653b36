"""What drives a training step: one small protocol, and its plain-PyTorch form for one process."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from nid_dist.parallel.engines import gradients


@runtime_checkable
class Engine(Protocol):
    """Owns the optimiser: `prepare` once, then `backward` per micro-batch and `step` per optimiser step.

    With several ranks, each one's losses are such that their MEAN over all ranks is the global batch's. So every
    parameter's gradient is that of this mean: replicated parameters' averaged over all ranks, sharded ones' summed over
    the ranks that hold the same experts and divided by the number of ALL ranks.

    A parameter that does not require a gradient at a step is left as it is, and so is its optimiser state; which ones
    do is the same on all ranks.
    """

    def prepare(self, modules: Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> None:
        """Take over modules and optimiser.

        Args:
            modules: all that is trained or has buffers; parameters are equal on all ranks that hold them.
            optimizer: PyTorch's Adam or AdamW, fused. Its parameter groups have `name`, and `sharded`: whether the
                parameters are of experts that only some ranks hold.
        """
        ...

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups whose `lr`, a number or a tensor to be filled, the next step uses; `name` says which is which."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a micro-batch's loss, already divided by the number of micro-batches."""
        ...

    def step(self, clip_norm: float | None, loss: Float[Tensor, ""]) -> Float64[Tensor, ""]:
        """Clip by the global norm (over all parameters of all ranks), step, clear the gradients; None: no clipping.

        All is decided on the device, and nothing waits for it. `loss` is this rank's, of the step: where any rank's is
        not finite, or the norm is not, nothing is changed.

        Returns:
            The norm before clipping, on the device, the same on all ranks; not finite where nothing was changed.
        """
        ...

    def refresh(self) -> None:
        """Parameters' values have been changed from outside (initial values, a loaded checkpoint)."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The optimiser's tensors, whole for parameters held here: `PARAMETER.exp_avg`, `.exp_avg_sq`, `.step`.

        Called on all ranks. To load, fill the tensors in place and call `restore` with them.
        """
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the optimiser's tensors from what `state` gave, filled with other values."""
        ...


class LocalEngine:
    """Plain PyTorch in one process."""

    def __init__(self) -> None:
        self.param_groups: list[dict[str, Any]] = []

    def prepare(self, modules: Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> None:
        """Take over modules and optimiser."""
        self.modules = nn.ModuleList(modules)
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups
        # What a recorded step reads has to be on the device, the rates too.
        for group in self.param_groups:
            device = group["params"][0].device
            if device.type != "cpu":
                group |= {"lr": torch.tensor(group["lr"], device=device), "capturable": True}
        optimizer._warned_capturable_if_run_uncaptured = True

    def refresh(self) -> None:
        """Nothing is kept besides the parameters."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing is to be done: `state` gives the optimiser's own tensors."""

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients."""
        loss.backward()

    def step(self, clip_norm: float | None, loss: Float[Tensor, ""]) -> Float64[Tensor, ""]:
        """Clip, step, clear; where loss or norm is not finite nothing is changed."""
        own = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = gradients.norm_with_loss(nn.utils.get_total_norm(own).double().square(), loss)
        gradients.clip(own, norm, clip_norm)
        gradients.step_if_finite(self.optimizer, norm, self.optimizer.step)
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Tensor]:
        """Adam's moments and step counts by the parameters' names; created as zeros before the first step."""
        names = {p: name for name, p in self.modules.named_parameters()}
        state: dict[str, Tensor] = {}
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                entry: dict[str, Any] = self.optimizer.state[parameter]
                if not entry:
                    entry["step"] = torch.zeros((), device=parameter.device)
                    entry["exp_avg"] = torch.zeros_like(parameter)
                    entry["exp_avg_sq"] = torch.zeros_like(parameter)
                for key, value in entry.items():
                    state[f"{names[parameter]}.{key}"] = value
        return state
