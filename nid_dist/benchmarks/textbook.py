"""Expert parallelism as textbooks have it: every token goes to its k experts, and k results come back.

A token is a coordinate of a signal, and all of a signal's tokens go where its code says. It is done as well as it can
be: codes are balanced, so no message is padded; the experts are named once per signal, not per token; and as all tokens
are copies of the same C coordinates, an owner finds the features of one copy, and evaluates all experts in one product.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.parallel.exchange.all_to_all import AllToAllExchange


def evaluate_tokens(dictionary: Dictionary, code: Code, coords: Float[Tensor, "C m"]) -> Float[Tensor, "T C d"]:
    """Evaluate the signals of some codes, token by token; what is sent counts as the exchange's traffic.

    The dictionary has linear heads, sharded over R ranks, each code k / R experts of every owner, and the coordinates
    are the same on all ranks.
    """
    exchange, heads = dictionary.exchange, dictionary.experts
    assert isinstance(exchange, AllToAllExchange) and isinstance(heads, LinearHeads)
    values, experts = _by_owner(code, exchange.ranks, heads.num_experts)
    tokens = coords.expand(*values.shape, *coords.shape)
    tokens, experts = exchange._send(tokens, "coordinates"), exchange._send(experts, "codes")
    results = _evaluate(heads, dictionary.trunk(tokens[0, 0, 0]), experts.flatten())
    returned = exchange._send(results.unflatten(0, experts.shape), "sums")
    # One small product for each owner and signal, over that owner's share of the k experts.
    partial = values.flatten(0, 1)[:, None] @ returned.flatten(0, 1).flatten(2)
    combined = partial.unflatten(0, values.shape[:2]).sum(0).unflatten(-1, (heads.channels, len(coords)))
    return combined[:, 0].transpose(1, 2) + code.bias[:, None]


def _by_owner(code: Code, ranks: int, local: int) -> tuple[Float[Tensor, "R T s"], Int[Tensor, "R T s"]]:
    """Coefficients and local indices of the k / R experts that each owner is asked for."""
    assert code.indices is not None
    order = code.indices.argsort(1)
    values, indices = (
        x.gather(1, order).unflatten(1, (ranks, -1)).transpose(0, 1) for x in (code.values, code.indices)
    )
    return values, (indices % local).int()


def _evaluate(heads: LinearHeads, features: Float[Tensor, "C h"], experts: Int[Tensor, "P"]) -> Float[Tensor, "P d C"]:
    rows = heads.rows.index_select(0, experts)
    numbers = heads.channels * heads.width
    weight, offset = rows[:, :numbers].reshape(-1, heads.width), rows[:, numbers:].reshape(-1, 1)
    return torch.addmm(offset, weight, features.t()).unflatten(0, (len(rows), heads.channels))
