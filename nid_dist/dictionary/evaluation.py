"""The two ways to evaluate f(x) = beta + sum_j alpha_j b_j(x), equal in exact arithmetic, and which one is cheaper.

On a CPU only the experts are evaluated that codes use, which has to be looked up in them. On an accelerator nothing
depends on what is in a code: no shape, and no branch.
"""

import functools
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nid_dist.code import Code
from nid_dist.dictionary.deep_experts import DeepExperts
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.memory import floats_at_once
from nid_dist.parallel.exchange.exchange import Exchange

_CPU = torch.device("cpu")
_CHUNK_BYTES = 256 * 2**20  # for evaluated atoms where nothing is said, on a CPU


def chunk_bytes(chunk_mb: int | None, device: torch.device = _CPU) -> int:
    """Memory for the atoms of one chunk: what `dictionary.chunk_mb` says, else what suits the device."""
    return 4 * floats_at_once(device, _CHUNK_BYTES // 4) if chunk_mb is None else chunk_mb * 2**20


def merge_then_evaluate(
    heads: LinearHeads, features: Float[Tensor, "*shared C h"], routed: Code, signals: int, exchange: Exchange
) -> Float[Tensor, "T C d"]:
    """sum_j alpha_j b_j(x): merge the k heads of each signal into one, then evaluate it: no term in n*C or k*C.

    Args:
        features: phi at shared [C, h] or per-signal [T, C, h] coordinates.
        routed: codes, as `exchange` dispatched them.
        exchange: back from the experts' owners; r = d * (h + 1) floats return per signal.
    """
    merged = exchange.combine(heads.merge(routed), signals)
    return heads.evaluate_merged(features, merged)


def evaluate_then_combine(
    experts: LinearHeads | DeepExperts,
    features: Float[Tensor, "*shared C h"],
    routed: Code,
    signals: int,
    exchange: Exchange,
    chunk_bytes: int,
) -> Float[Tensor, "T C d"]:
    """Evaluate the experts that some signal uses, then combine them with the sparse codes: sum_j alpha_j b_j(x).

    Chunks are recomputed in the backward pass (unless there is only one), so that the atoms' memory stays within about
    `chunk_bytes` whatever n is. On a CPU a coefficient of zero is left out, except where its gradient is asked for.

    Args:
        features: phi at shared [C, h] or per-signal [T, C, h] coordinates.
        routed: codes, as `exchange` dispatched them.
        signals: T, of the local batch.
        exchange: back from the experts' owners; C * d floats return per signal.
        chunk_bytes: memory for the atoms of one chunk, hidden layers included.
    """
    if features.dim() == 3:
        partial = _combine_pairs(experts, exchange.share(features), routed, chunk_bytes)
    else:
        partial = _combine_shared(experts, features, routed, chunk_bytes)
    return exchange.combine(partial, signals)


def _combine_shared(
    experts: LinearHeads | DeepExperts, features: Float[Tensor, "C h"], code: Code, chunk_bytes: int
) -> Float[Tensor, "T C d"]:
    on_cpu, count = features.device.type == "cpu", experts.num_experts
    if not on_cpu and code.indices is not None and code.indices.numel() < count:
        return _combine_pairs(experts, features, code, chunk_bytes).to(features.dtype)
    alpha, tensors = code.dense(count), experts.tensors
    if on_cpu and len(used := _used_experts(code, count)) < count:
        alpha, tensors = alpha[:, used], tuple(tensor[used] for tensor in tensors)
    floats = features.shape[0] * experts.floats_per_coordinate
    step = max(1, chunk_bytes // (floats * features.element_size()))

    def partial(phi: Tensor, coefficients: Tensor, *chunk: Tensor) -> Tensor:
        return coefficients @ experts.evaluate(phi, chunk).flatten(1)

    # Of one type whatever the number of chunks, which differs between ranks: they exchange what comes out.
    kind = features.dtype
    if alpha.shape[1] <= step:
        total = partial(features, alpha, *tensors).to(kind)
    else:
        total = features.new_zeros(code.signals, features.shape[0] * experts.channels, dtype=kind)
        # Split once: the backward pass of a slice per chunk would write zeros for all experts each time.
        for chunk in zip(alpha.split(step, 1), *(tensor.split(step) for tensor in tensors), strict=True):
            total = total + _recomputed(partial)(features, *chunk).to(kind)
    return total.unflatten(1, (features.shape[0], experts.channels))


def _combine_pairs(
    experts: LinearHeads | DeepExperts, features: Float[Tensor, "*shared C h"], code: Code, chunk_bytes: int
) -> Float[Tensor, "T C d"]:
    """Evaluate an expert once for every coefficient: it is no other signal's, or has coordinates of its own."""
    shared, coordinates = features.dim() == 2, features.shape[-2]
    expert, signal, weight = _pairs(code)
    tensors, count = experts.tensors, experts.num_experts
    # Gathered once, so that the backward pass of a chunk's own gather writes no more than these.
    if features.device.type == "cpu":
        used, expert = torch.unique(expert, return_inverse=True)
        if len(used) < count:
            tensors = tuple(tensor[used] for tensor in tensors)
    elif len(expert) < count:
        tensors = tuple(_chosen(tensor, expert) for tensor in tensors)
        expert = torch.arange(len(expert), device=expert.device)
    floats = coordinates * (experts.width * (not shared) + experts.floats_per_coordinate)
    floats += sum(tensor[:1].numel() for tensor in tensors)
    step = max(1, chunk_bytes // (floats * features.element_size()))

    def partial(which: Tensor, where: Tensor, coefficient: Tensor, phi: Tensor, *chunk: Tensor) -> Tensor:
        parts = [_chosen(tensor, which) for tensor in chunk]
        atoms = experts.evaluate(phi, parts) if shared else experts.evaluate_per_signal(_chosen(phi, where), parts)
        return coefficient[:, None, None] * atoms

    total = features.new_zeros(
        code.signals, coordinates, experts.channels, dtype=torch.promote_types(features.dtype, weight.dtype)
    )
    run = partial if len(weight) <= step else _recomputed(partial)
    for which, where, coefficient in zip(expert.split(step), signal.split(step), weight.split(step), strict=True):
        values = run(which, where, coefficient, features, *tensors)
        total = total.index_add(0, where, values.to(total.dtype))
    return total


def _chosen(rows: Tensor, places: Int[Tensor, "P"]) -> Tensor:
    # The backward pass of an index sorts on a GPU, that of this adds.
    return rows[places] if rows.device.type == "cpu" else rows.index_select(0, places)


def _recomputed(partial: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # Nothing in it is random: no generator's state needs to be kept.
    return functools.partial(checkpoint, partial, use_reentrant=False, preserve_rng_state=False)


def _counting(code: Code) -> Bool[Tensor, "T k"]:
    """Which coefficients make a difference."""
    if code.values.requires_grad and torch.is_grad_enabled():
        # A coefficient of zero has a gradient, too.
        return torch.ones_like(code.values, dtype=torch.bool) if code.present is None else code.present
    return code.values != 0


def _used_experts(code: Code, experts: int) -> Int[Tensor, "U"]:
    used = torch.zeros(experts, dtype=torch.bool, device=code.values.device)
    counts = _counting(code)
    if code.indices is None:
        used |= counts.any(0)
    else:
        used[code.indices[counts]] = True
    # One at least: the result must stay in the graph, or a rank without work would miss the exchange's way back.
    used[0] |= ~used.any()
    return torch.arange(experts, device=used.device)[used]


def _pairs(code: Code) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"], Float[Tensor, "P"]]:
    """Expert, signal and coefficient of every product alpha_ij b_j; on a CPU, of those that make a difference."""
    signals, support = code.values.shape
    signal = torch.arange(signals, device=code.values.device)[:, None].expand(-1, support).flatten()
    indices = code.indices
    if indices is None:
        indices = torch.arange(support, device=code.values.device).expand(signals, support)
    if code.values.device.type != "cpu":
        return indices.flatten(), signal, code.values.flatten()
    kept = _counting(code).flatten()
    if signals:
        # As above: one at least.
        kept[0] |= ~kept.any()
    return indices.flatten()[kept], signal[kept], code.values.flatten()[kept]


def cheaper_strategy(
    *, signals: int, coordinates: int, support: int, experts: int, channels: int, width: int, shared: bool
) -> Literal["merge", "combine"]:
    """Choose for linear heads by the number of multiplications.

    Merging costs k*d*(h+1) per signal, and C*d*h for the merged head. Combining (shared coordinates) costs C*d*h per
    expert that is used, at most min(n, T*k) of them, and C*d per signal and expert. So combining wins only where
    signals outnumber experts, about n < T*h / (T + h).

    Args:
        signals: T; and so on: the coordinates C, the support k, the experts E, the channels d, the width h.
        shared: whether the signals share coordinates.
    """
    if not shared:
        # One coordinate set per signal: combining evaluates k heads on each, merging one.
        return "merge"
    merge = signals * channels * (support * (width + 1) + coordinates * width)
    used = min(experts, signals * support)
    combine = coordinates * channels * used * (width + signals)
    return "merge" if merge <= combine else "combine"
