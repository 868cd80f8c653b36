"""Signed top-k: the k logits of largest magnitude are the code, raw and signed, without a softmax."""

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code


def signed_top_k(logits: Float[Tensor, "T n"], bias: Float[Tensor, "T d"], k: int) -> Code:
    """Keep the k logits of largest magnitude of each signal, with their sign.

    The code's values carry the gradient of the logits that were kept.
    """
    indices = logits.detach().abs().topk(k, dim=1, sorted=False).indices
    return Code(logits.gather(1, indices), bias, indices)


def noisy_top_k(
    logits: Float[Tensor, "T n"],
    noise_scale: Float[Tensor, "T n"],
    bias: Float[Tensor, "T d"],
    k: int,
    noise: Float[Tensor, "T n"],
) -> tuple[Code, Float[Tensor, "n"]]:
    """Choose the support by noisy logits, and estimate the load smoothly.

    An expert is loaded by a signal when its |logit + noise| is among the k largest. With the other logits' noise held
    fixed, the probability of that is P(|l_j + s_j e| > t_j), e ~ N(0, 1), where t_j is the k-th largest of the others:
    the estimate of Shazeer et al. 2017 (eq. 8 to 10), here with two tails, as selection is by magnitude. Like theirs it
    is differentiable in all logits and scales, the threshold's included. Given are the noise's standard deviations and
    standard normal numbers. The code's values are the noisy logits; the load is the expected number of signals per
    expert.
    """
    n = logits.shape[1]
    noisy = logits + noise * noise_scale
    magnitude = noisy.abs()
    top = magnitude.topk(min(k + 1, n), dim=1)
    indices = top.indices[:, :k]
    code = Code(noisy.gather(1, indices), bias, indices)
    if k >= n:
        return code, torch.full((n,), float(logits.shape[0]), dtype=logits.dtype, device=logits.device)
    kth, next_below = top.values[:, k - 1 : k], top.values[:, k : k + 1]
    # To be selected, a selected logit must beat the best one left out; one left out must beat the k-th selected.
    threshold = torch.where(magnitude >= kth, next_below, kth)
    upper = torch.special.ndtr((logits - threshold) / noise_scale)
    lower = torch.special.ndtr((-logits - threshold) / noise_scale)
    return code, (upper + lower).sum(0)
