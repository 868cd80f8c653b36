"""The dense oracle: every expert evaluated one by one, on all coordinates, and added with the dense code.

Plain formulas, written apart from the package; only the encoding (which has tests of its own) is taken from it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from nid_dist.code import Code
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads


def make_dictionary(
    *,
    m: int = 2,
    d: int = 2,
    seed: int = 0,
    features: int = 4,
    encoding: str = "fourier",
    scale: float = 2.0,
    **options,
) -> Dictionary:
    """A small dictionary in float64, with every number (the offsets, too) away from zero."""
    options = {"experts": 7, "width": 5, "private_width": 4, "activation": "tanh", **options}
    config = DictionaryConfig(encoding=Encoding(kind=encoding, features=features, scale=scale), **options)
    generator = torch.Generator().manual_seed(seed)
    dictionary = Dictionary(config, m, d, generator).double()
    with torch.no_grad():
        for parameter in dictionary.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return dictionary


def activation(dictionary: Dictionary, x: Tensor) -> Tensor:
    """The activation that the configuration names."""
    match dictionary.config.activation:
        case "relu":
            return x.clamp_min(0)
        case "gelu":
            return x * 0.5 * (1 + torch.erf(x * 2**-0.5))
        case "sine":
            return torch.sin(dictionary.config.omega * x)
        case _:
            return torch.tanh(x)


def features(dictionary: Dictionary, x: Tensor) -> Tensor:
    """phi at coordinates [C, m]."""
    hidden, layers = dictionary.trunk.encoding(x), list(dictionary.trunk.layers)
    for layer in layers:
        hidden = hidden @ layer.weight.t() + layer.bias
        if layer is not layers[-1] or dictionary.config.trunk_output == "activated":
            hidden = activation(dictionary, hidden)
    return hidden


def atom(dictionary: Dictionary, expert: int, x: Tensor) -> Tensor:
    """b_j at coordinates [C, m]: values [C, d]."""
    hidden, experts, d = features(dictionary, x), dictionary.experts, dictionary.channels
    if isinstance(experts, LinearHeads):
        row, h = experts.rows[expert], hidden.shape[1]
        return torch.stack([hidden @ row[c * h : (c + 1) * h] + row[d * h + c] for c in range(d)], 1)
    for layer, (weight, offset) in enumerate(zip(experts.weights, experts.offsets, strict=True)):
        hidden = activation(dictionary, hidden) if layer else hidden
        hidden = hidden @ weight[expert].t() + offset[expert]
    return hidden


def f(dictionary: Dictionary, code: Code, coords: Tensor) -> Tensor:
    """beta_i + sum_j alpha_ij b_j(x), one product at a time."""
    signals = []
    for i in range(len(code.values)):
        x = coords if coords.dim() == 2 else coords[i]
        value = code.bias[i].expand(len(x), -1)
        experts = range(dictionary.num_experts) if code.indices is None else code.indices[i].tolist()
        for position, expert in enumerate(experts):
            value = value + code.values[i, position] * atom(dictionary, expert, x)
        signals.append(value)
    return torch.stack(signals)


def random_code(n: int, k: int | None, signals: int = 3, d: int = 2, seed: int = 1, used: int | None = None) -> Code:
    """A code in float64 that asks for gradients; dense without k, on the first `used` experts with it."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(signals, n if k is None else k, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.randn(signals, d, generator=generator, dtype=torch.float64).requires_grad_()
    if k is None:
        return Code(values, bias)
    chosen = [torch.randperm(used or n, generator=generator)[:k] for _ in range(signals)]
    return Code(values, bias, torch.stack(chosen))


def random_coords(signals: int | None, count: int = 5, m: int = 2, seed: int = 2) -> Tensor:
    """Coordinates in float64 that ask for gradients, per signal or (None) shared."""
    shape = (count, m) if signals is None else (signals, count, m)
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1).requires_grad_()


def gradient(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """df_c/dx_i [T, C, d, m] of a pointwise f: a channel's sum over all coordinates has each one's own derivative."""
    x = x if x.requires_grad else x.requires_grad_()
    return torch.stack([torch.autograd.grad(c.sum(), x, create_graph=True)[0] for c in f(x).unbind(-1)], -2)


def laplacian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """sum_i d2f_c/dx_i2 [T, C, d]."""
    seconds = gradient(lambda y: gradient(f, y).flatten(-2), x).unflatten(-2, (-1, x.shape[-1]))
    return seconds.diagonal(dim1=-2, dim2=-1).sum(-1)
