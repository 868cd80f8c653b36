"""The two ways to evaluate f(x) = beta + sum_j alpha_j b_j(x), equal in exact arithmetic, and the choice between them."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nid_dist.coding.code import Code
from nid_dist.dictionary.deep_experts import DeepExperts
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.parallel.exchange import Exchange


def merge_then_evaluate(
    heads: LinearHeads, features: Float[Tensor, "*shared C h"], code: Code, exchange: Exchange
) -> Float[Tensor, "T C d"]:
    """Merge the k heads of each signal into one, then evaluate it: no term in n*C or k*C.

    Args:
        heads: linear heads.
        features: phi at shared [C, h] or per-signal [T, C, h] coordinates.
        code: codes of the local batch.
        exchange: to the experts' owners and back; r = d * (h + 1) numbers return per signal.

    Returns:
        sum_j alpha_j b_j(x).
    """
    merged = exchange.combine(heads.merge(exchange.dispatch(code)))
    return heads.evaluate_merged(features, merged)


def evaluate_then_combine(
    experts: LinearHeads | DeepExperts,
    features: Float[Tensor, "*shared C h"],
    code: Code,
    exchange: Exchange,
    chunk_bytes: int,
) -> Float[Tensor, "T C d"]:
    """Evaluate the experts that some signal uses, then combine them with the sparse codes.

    Chunks are recomputed in the backward pass, so that memory stays within about `chunk_bytes` per pass whatever n is.

    Args:
        experts: any experts.
        features: phi at shared [C, h] or per-signal [T, C, h] coordinates.
        code: codes of the local batch.
        exchange: to the experts' owners and back; C * d numbers return per signal.
        chunk_bytes: memory for the atoms of one chunk.

    Returns:
        sum_j alpha_j b_j(x).
    """
    routed = exchange.dispatch(code)
    if features.dim() == 3:
        partial = _combine_per_signal(experts, exchange.share(features), routed, chunk_bytes)
    else:
        partial = _combine_shared(experts, features, routed, chunk_bytes)
    return exchange.combine(partial)


def _combine_shared(
    experts: LinearHeads | DeepExperts, features: Float[Tensor, "C h"], code: Code, chunk_bytes: int
) -> Float[Tensor, "T C d"]:
    alpha = code.dense(experts.experts)
    per_expert = features.shape[0] * max(experts.width, experts.channels) * features.element_size()
    step = max(1, chunk_bytes // per_expert)
    total = features.new_zeros(code.signals, features.shape[0] * experts.channels)

    def partial(first: int, last: int, phi: Tensor, coefficients: Tensor) -> Tensor:
        return coefficients @ experts.atoms(phi, first, last).reshape(last - first, -1)

    used = (alpha.detach() != 0).any(0)
    for first in range(0, experts.experts, step):
        last = min(first + step, experts.experts)
        if used[first:last].any():
            total = total + checkpoint(partial, first, last, features, alpha[:, first:last], use_reentrant=False)
    return total.unflatten(1, (features.shape[0], experts.channels))


def _combine_per_signal(
    experts: LinearHeads | DeepExperts, features: Float[Tensor, "T C h"], code: Code, chunk_bytes: int
) -> Float[Tensor, "T C d"]:
    signals, coordinates = features.shape[:2]
    if code.indices is None:
        pair_expert = torch.arange(experts.experts, device=features.device).repeat(signals)
    else:
        pair_expert = code.indices.flatten()
    pair_signal = torch.arange(signals, device=features.device).repeat_interleave(code.values.shape[1])
    weights = code.values.flatten()
    per_pair = coordinates * max(experts.width, experts.channels) * features.element_size()
    step = max(1, chunk_bytes // per_pair)
    total = features.new_zeros(signals, coordinates, experts.channels)

    def partial(expert: Tensor, signal: Tensor, weight: Tensor, phi: Tensor) -> Tensor:
        values = weight[:, None, None] * experts.atoms_per_signal(phi[signal], expert)
        return values.new_zeros(signals, coordinates, experts.channels).index_add(0, signal, values)

    for first in range(0, weights.shape[0], step):
        part = slice(first, first + step)
        total = total + checkpoint(
            partial, pair_expert[part], pair_signal[part], weights[part], features, use_reentrant=False
        )
    return total


def cheaper_strategy(
    *, signals: int, coordinates: int, support: int, experts: int, channels: int, width: int, shared: bool
) -> Literal["merge", "combine"]:
    """Choose for linear heads by the number of multiplications.

    Merging costs k*d*h per signal and C*d*h for its evaluation; combining costs C*d*h per EXPERT and C*d*n per signal
    (shared coordinates). So combining wins only where signals outnumber experts and n < h.

    Args:
        signals: T.
        coordinates: C.
        support: k.
        experts: E.
        channels: d.
        width: h.
        shared: whether the signals share coordinates.

    Returns:
        The strategy with fewer multiplications.
    """
    if not shared:
        return "merge"
    merge = signals * channels * width * (min(support, experts) + coordinates)
    combine = coordinates * channels * experts * (width + signals)
    return "merge" if merge <= combine else "combine"
