"""What a dictionary knows of signals, and detail beside it, from one set of measurements: kriging with a learned trend.

Measurements y = D z + S c + e: D the directions of the learned prior as they are measured, z ~ N(0, I / rho) along
them, S the detail experts, c with the energy c^T L c of their roughness, e independent noise of variance 1 / w. The
most probable (z, c) together minimise

    sum_i w_i (y - D z - S c)_i^2 + rho |z|^2 + c^T L c,

which is quadratic. z is few numbers and is eliminated exactly; c is many, with sparse S and L, and is found by
preconditioned conjugate gradients. rho = infinity takes the dictionary out, a large L the detail. Robust losses and
sparse detail are sequences of such problems, with other w and L.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.precision import full_precision


@runtime_checkable
class DetailMap(Protocol):
    """S: from the coefficients of detail experts to what is measured of them."""

    def __call__(self, coefficients: Float[Tensor, "T G"]) -> Float[Tensor, "T N"]:
        """S c."""
        ...

    def adjoint(self, measured: Float[Tensor, "T N"]) -> Float[Tensor, "T G"]:
        """S^T y."""
        ...

    def squares(self, weights: Float[Tensor, "T N"]) -> Float[Tensor, "T G"]:
        """The diagonal of S^T diag(w) S."""
        ...


@runtime_checkable
class Roughness(Protocol):
    """L: a symmetric positive semidefinite matrix."""

    @property
    def diagonal(self) -> Float[Tensor, "T G"] | Float[Tensor, "G"]:
        """Its diagonal."""
        ...

    def __call__(self, coefficients: Float[Tensor, "T G"]) -> Float[Tensor, "T G"]:
        """L c."""
        ...


@dataclass(frozen=True)
class Independent:
    """Coefficients that are independent: L is diagonal, one over their variances.

    On a multi-level grid it is a smoothness: the coarser a level, the more its coefficients may be.
    """

    diagonal: Float[Tensor, "T G"] | Float[Tensor, "G"]

    def __call__(self, coefficients: Float[Tensor, "T G"]) -> Float[Tensor, "T G"]:
        """L c."""
        return self.diagonal * coefficients


@dataclass(frozen=True)
class Found:
    """The most probable trend and detail of T signals."""

    trend: Float[Tensor, "T q"]  # z
    detail: Float[Tensor, "T G"]  # c
    fitted: Float[Tensor, "T N"]  # D z + S c
    iterations: int  # of conjugate gradients
    residual: Float[Tensor, "T"]  # of the equations for c, relative to their right-hand side


@torch.no_grad()
@full_precision()
def solve_trend_and_detail(
    trend: Float[Tensor, "N q"],
    detail: DetailMap,
    roughness: Roughness,
    measured: Float[Tensor, "T N"],
    weights: Float[Tensor, "T N"] | Float[Tensor, "N"],
    *,
    rho: float | Float[Tensor, "T"] = 1.0,
    start: Float[Tensor, "T G"] | None = None,
    tolerance: float = 1e-4,
    iterations: int = 300,
) -> Found:
    """Minimise the sum of squares above for T signals, or for T choices of rho and L of one.

    Args:
        trend: D, the directions as they are measured; q may be 0.
        measured: y, less what the prior's mean is measured as.
        weights: w, not negative; 0 for what is not known.
        rho: how little the dictionary is trusted; infinity: not at all.
        start: coefficients to start from, such as those of the last weights; None: 0.
        tolerance: of the relative residual, at which a signal is done.
        iterations: at most.
    """
    weights = weights.expand(measured.shape)
    eliminated = _Eliminated.of(trend, weights, torch.as_tensor(rho, device=measured.device).expand(len(measured)))
    diagonal = detail.squares(weights) + roughness.diagonal
    # A spline that nothing measures and nothing restrains is left at zero.
    scale = torch.where(diagonal > 0, 1 / diagonal.clamp_min(torch.finfo(diagonal.dtype).tiny), 0.0)

    def system(c: Tensor) -> Tensor:
        return detail.adjoint(eliminated.weigh(detail(c))) + roughness(c)

    right = detail.adjoint(eliminated.weigh(measured))
    c = torch.zeros_like(right) if start is None else start.clone()
    error = right - system(c) if start is not None else right.clone()
    size = right.norm(dim=1).clamp_min(torch.finfo(right.dtype).tiny)
    direction = conditioned = scale * error
    energy = (error * conditioned).sum(1)
    done = 0
    for done in range(1, iterations + 1):
        moved = system(direction)
        curvature = (direction * moved).sum(1)
        step = torch.where(curvature > 0, energy / curvature.clamp_min(torch.finfo(energy.dtype).tiny), 0.0)[:, None]
        c, error = c + step * direction, error - step * moved
        # Asked now and then only: a GPU would be waited for.
        if done % 5 == 0 and bool((error.norm(dim=1) <= tolerance * size).all()):
            break
        conditioned = scale * error
        before, energy = energy, (error * conditioned).sum(1)
        share = torch.where(before > 0, energy / before.clamp_min(torch.finfo(energy.dtype).tiny), 0.0)
        direction = conditioned + share[:, None] * direction
    explained = detail(c)
    latent = eliminated.latent(measured - explained)
    return Found(latent, c, latent @ trend.t() + explained, done, error.norm(dim=1) / size)


@torch.no_grad()
def generalized_cross_validation(
    trend: Float[Tensor, "N q"],
    detail: DetailMap,
    roughness: Roughness,
    measured: Float[Tensor, "N"],
    weights: Float[Tensor, "N"],
    rho: Float[Tensor, "T"],
    *,
    probes: int = 1,
    seed: int = 0,
    tolerance: float = 1e-3,
    iterations: int = 200,
) -> tuple[Float[Tensor, "T"], Found]:
    """How well each of T choices of rho and L would predict measurements that it has not seen: the less, the better.

    n |W^1/2 (y - H y)|^2 / (n - tr H)^2 over the n measurements of positive weight (Golub, Heath and Wahba 1979), with
    the trace from random signs (Hutchinson 1990), the same for all choices, so that these are compared alike.

    Args:
        roughness: of T choices, of a diagonal [T, G] or one for all; it is asked about T signals at a time.

    Returns:
        The scores, and what was found under each choice.
    """
    count, choices = int((weights > 0).sum()), len(rho)
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (probes, len(measured)), generator=generator).to(measured) * 2 - 1
    root = weights.sqrt()
    probe = torch.where(weights > 0, signs / root.clamp_min(torch.finfo(root.dtype).tiny), 0.0)
    together = torch.cat([measured.expand(choices, -1), probe.repeat_interleave(choices, 0)])
    repeated = _Repeated(roughness, 1 + probes)
    found = solve_trend_and_detail(
        trend,
        detail,
        repeated,
        together,
        weights,
        rho=rho.repeat(1 + probes),
        tolerance=tolerance,
        iterations=iterations,
    )
    left = (weights * (measured - found.fitted[:choices]).square()).sum(1)
    trace = (signs.repeat_interleave(choices, 0) * root * found.fitted[choices:]).sum(1).view(probes, choices).mean(0)
    free = (count - trace).clamp_min(1e-3 * count)
    score = count * left / free.square()
    first = slice(0, choices)
    chosen = Found(
        found.trend[first], found.detail[first], found.fitted[first], found.iterations, found.residual[first]
    )
    return score, chosen


@dataclass(frozen=True)
class _Repeated:
    """The choices of a roughness, several times."""

    roughness: Roughness
    times: int

    @property
    def diagonal(self) -> Tensor:
        """Its diagonal."""
        diagonal = self.roughness.diagonal
        return diagonal if diagonal.dim() == 1 else diagonal.repeat(self.times, 1)

    def __call__(self, coefficients: Tensor) -> Tensor:
        """L c."""
        parts = coefficients.unflatten(0, (self.times, -1))
        return torch.cat([self.roughness(part) for part in parts])


@dataclass(frozen=True)
class _Eliminated:
    """The measurements' precision where z may be anything: W - W D (D^T W D + rho)^-1 D^T W."""

    trend: Float[Tensor, "N q"]
    weights: Float[Tensor, "T N"]
    inverse: Float[Tensor, "T q q"]  # 0 where rho is infinite

    @staticmethod
    def of(trend: Tensor, weights: Tensor, rho: Tensor) -> "_Eliminated":
        q = trend.shape[1]
        shared = weights.stride(0) == 0 or len(weights) == 1
        grams = torch.stack([(trend * one[:, None]).t() @ trend for one in (weights[:1] if shared else weights)])
        finite = torch.isfinite(rho)
        system = (
            grams.double() + torch.where(finite, rho, 1.0).double()[:, None, None] * torch.eye(q).to(grams).double()
        )
        inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(system)[0]) if q else system
        return _Eliminated(trend, weights, torch.where(finite[:, None, None], inverse, 0.0).to(trend.dtype))

    def latent(self, measured: Tensor) -> Float[Tensor, "T q"]:
        along = (self.weights * measured) @ self.trend
        return (self.inverse @ along[..., None])[..., 0]

    def weigh(self, measured: Tensor) -> Float[Tensor, "T N"]:
        found: Tensor = self.weights * (measured - self.latent(measured) @ self.trend.t())
        return found
