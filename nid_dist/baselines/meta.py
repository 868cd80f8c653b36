"""A learned initialisation for networks (Tancik et al. 2021): MAML (Finn et al. 2017) or Reptile (Nichol et al. 2018).

Weights from which a few plain gradient steps represent a new signal of the kind that they were learned from.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from nid_dist.baselines.cache import Weights, found_again, keep
from nid_dist.baselines.config import Inr, Meta
from nid_dist.baselines.inr import Network
from nid_dist.device import resolve_device
from nid_dist.progress import track

Signals = Callable[[int], Float[Tensor, "T C d"]]
"""The signals of an outer step, given its number."""


def learn_start(config: Inr, coords: Float[Tensor, "C m"], channels: int, signals: Signals) -> Weights:
    """Learn an initialisation: the weights, by name. The configuration has a section `meta`."""
    meta = config.meta
    assert meta is not None
    device = resolve_device("auto")
    network, coords = Network(config, coords.shape[1], channels).to(device), coords.to(device)
    weights = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
    optimizer = torch.optim.Adam(weights.values(), lr=meta.outer_lr)
    draws = torch.Generator().manual_seed(config.seed)
    for step in track(range(meta.outer_steps), "learning a start", "step"):
        batch = signals(step).to(device)
        for group in optimizer.param_groups:
            # Down to a tenth: the outer gradient is noisy to the end.
            group["lr"] = meta.outer_lr * 0.1 ** (step / meta.outer_steps)
        optimizer.zero_grad(set_to_none=True)
        for values in batch:
            _outer_gradient(network, config, meta, weights, coords, values, len(batch), draws)
        optimizer.step()
    return {name: weight.detach().cpu() for name, weight in weights.items()}


def _outer_gradient(
    network: Network,
    config: Inr,
    meta: Meta,
    weights: Weights,
    coords: Tensor,
    values: Tensor,
    num_signals: int,
    draws: torch.Generator,
) -> None:
    """Add a signal's part of the outer gradient, after its inner steps."""
    exact = meta.algorithm == "maml"

    def loss(current: Weights) -> Tensor:
        where: Tensor | slice = slice(None)
        if meta.coordinates is not None and meta.coordinates < len(coords):
            where = torch.randint(len(coords), (meta.coordinates,), generator=draws).to(coords.device)
        shown: Tensor = functional_call(network, current, (coords[where],))
        return (shown - values[where]).square().mean()

    current: Weights = dict(weights)
    for _ in range(meta.inner_steps):
        slopes = torch.autograd.grad(loss(current), list(current.values()), create_graph=exact)
        current = {
            name: weight - config.lr * slope for (name, weight), slope in zip(current.items(), slopes, strict=True)
        }
        if not exact:
            current = {name: weight.detach().requires_grad_() for name, weight in current.items()}
    if exact:
        # Through the inner steps: second derivatives and all.
        (loss(current) / num_signals).backward()
        return
    with torch.no_grad():
        for name, weight in weights.items():
            towards = (weight - current[name]) / num_signals
            weight.grad = towards if weight.grad is None else weight.grad + towards


def learned_start(config: Inr, coords: Float[Tensor, "C m"], channels: int, signals: Signals, path: Path) -> Weights:
    """An initialisation that is learned once, kept at `path`, and then found again.

    Raises:
        UserError: when the file is damaged, or was learned by another configuration.
    """
    facts = {"config": config.model_dump_json(), "coordinates": str(len(coords)), "channels": str(channels)}
    if path.exists():
        return found_again(path, facts, "initialisation")
    print(f"learning the start of {path.stem} (kept in {path})", file=sys.stderr)
    weights = learn_start(config, coords, channels, signals)
    keep(path, weights, facts)
    return weights


def read_start(config: Inr, path: Path) -> Weights:
    """An initialisation that was learned before, for any number of coordinates.

    Raises:
        UserError: when the file is damaged, or was learned by another configuration.
    """
    return found_again(path, {"config": config.model_dump_json()}, "initialisation")
