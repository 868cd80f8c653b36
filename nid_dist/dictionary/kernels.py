"""Frequencies whose random Fourier features have a given kernel: exact draws from its spectral density.

E[cos(w . (x - y))] = k(x - y) when w follows the kernel's spectral density (Bochner; Rahimi and Recht 2007). Every
isotropic kernel here is a scale mixture of Gaussian kernels, so that w = a * z with z ~ N(0, I_m) and a random
amplitude a: one formula for any dimension, without Markov chains. With r = |x - y| * scale, scale = 1 / length scale:

| kind | kernel | a |
|---|---|---|
| gaussian | exp(-r^2 / 2) | 1 |
| matern | 2^(1-nu) / Gamma(nu) * (sqrt(2 nu) r)^nu K_nu(sqrt(2 nu) r) | G^(-1/2), G ~ Gamma(nu, rate nu): Student's t |
| rational_quadratic | (1 + r^2 / (2 alpha))^-alpha | G^(1/2), G ~ Gamma(alpha, rate alpha) |
| gamma_exponential | exp(-r^gamma) | (2 A)^(1/2), A positive gamma/2-stable: w is isotropic stable |
| laplacian | exp(-scale * |x - y|_1), L1 as in Rahimi and Recht, not isotropic | w: independent Cauchy coordinates |
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# Heavy tails reach any number. A longer frequency is shortened to this length: its phase has no digits left in either
# case, and w and |w|^2 (the features' second derivatives) stay finite in float32.
LONGEST = 1e18


def frequencies(
    kind: str,
    count: int,
    dim: int,
    scale: float,
    *,
    generator: torch.Generator,
    nu: float = 1.5,
    alpha: float = 1.0,
    gamma: float = 1.0,
) -> Float[Tensor, "count dim"]:
    """Draw frequencies from a kernel's spectral density.

    Args:
        kind: a kernel of this file's table.
        scale: 1 / length scale of the kernel, per unit of x.
        generator: of the draws, on the CPU.
        nu: smoothness of `matern`.
        alpha: mixture parameter of `rational_quadratic`.
        gamma: exponent of `gamma_exponential`, in (0, 2].

    Returns:
        Independent frequencies in radians per unit of x, finite, drawn in float64 and of the default type.

    Raises:
        ValueError: for an unknown kind.
    """
    normal = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    match kind:
        case "gaussian":
            log_amplitude = torch.zeros(count, dtype=torch.float64)
        case "laplacian":
            uniform = torch.rand(count, dim, generator=generator, dtype=torch.float64)
            return _shorten(torch.tan(math.pi * (uniform - 0.5)) * scale)
        case "matern":
            log_amplitude = -0.5 * _log_gamma_variable(nu, count, generator)
        case "rational_quadratic":
            log_amplitude = 0.5 * _log_gamma_variable(alpha, count, generator)
        case "gamma_exponential":
            log_amplitude = 0.5 * (math.log(2) + _log_positive_stable(gamma / 2, count, generator))
        case _:
            raise ValueError(f"no kernel of the name {kind!r}")
    # exp(300) * |z| stays finite in float64, and is beyond LONGEST by far.
    return _shorten(log_amplitude.clamp(-300, 300).exp()[:, None] * normal * scale)


def _log_gamma_variable(shape: float, count: int, generator: torch.Generator) -> Float[Tensor, "count"]:
    # log G of G ~ Gamma(shape, rate shape), of mean 1. Gamma(s) = Gamma(s + 1) * U^(1/s): the logarithm stays exact for
    # small shapes, whose G underflows.
    above = torch._standard_gamma(torch.full((count,), shape + 1, dtype=torch.float64), generator=generator)
    return above.log() + _positive_uniform(count, generator).log() / shape - math.log(shape)


def _log_positive_stable(index: float, count: int, generator: torch.Generator) -> Float[Tensor, "count"]:
    # log A of A > 0 with E[exp(-t A)] = exp(-t^index), index in (0, 1]: Kanter 1975, the one-sided case
    # of Chambers, Mallows and Stuck 1976.
    if index == 1:
        return torch.zeros(count, dtype=torch.float64)
    angle = math.pi * _positive_uniform(count, generator)
    exponential = -_positive_uniform(count, generator).log()
    ratio = (1 - index) / index
    return (
        torch.sin(index * angle).log()
        - torch.sin(angle).log() / index
        + ratio * (torch.sin((1 - index) * angle).log() - exponential.log())
    )


def _positive_uniform(count: int, generator: torch.Generator) -> Float[Tensor, "count"]:
    return torch.rand(count, generator=generator, dtype=torch.float64).clamp_min(2.0**-54)


def _shorten(drawn: Float[Tensor, "count dim"]) -> Float[Tensor, "count dim"]:
    length = drawn.abs().amax(1, keepdim=True)
    return (drawn * (LONGEST / length.clamp_min(LONGEST))).to(torch.get_default_dtype())
