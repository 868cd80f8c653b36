"""A network per shape from oriented points: SIREN with eikonal and normal terms (Sitzmann et al. 2020, section 4.2)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nid_dist.baselines.inr import Baseline, Fitted, Network

# The weights of the paper's released code: on the surface, normals, no surface elsewhere, unit gradients.
_SURFACE, _NORMAL, _ELSEWHERE, _EIKONAL = 3e3, 1e2, 1e2, 5e1
_SHARPNESS = 100.0  # of exp(-a |f|), which keeps f from zero off the surface


def fit_oriented_points(
    baseline: Baseline,
    points: Float[Tensor, "P 3"],
    normals: Float[Tensor, "P 3"] | None,
    *,
    off: int = 512,
    steps: int | None = None,
    seed: int = 0,
) -> Fitted:
    """Fit a signed distance to a cloud.

    Args:
        points: in the cube.
        normals: out of the shape; None: the normal term is left out.
        off: points drawn uniformly from the cube in a step; of the cloud as many are drawn, or all where it has fewer.
        steps: gradient steps; None: the baseline's.

    Returns:
        The network, negative inside where normals were given.
    """
    generator = torch.Generator().manual_seed(seed)

    def loss(network: Network) -> Tensor:
        chosen = torch.randperm(len(points), generator=generator)[:off]
        drawn = 2 * torch.rand(off, 3, generator=generator) - 1
        coords = torch.cat([points[chosen], drawn]).requires_grad_(True)
        values = network(coords)[:, 0]
        (slope,) = torch.autograd.grad(values.sum(), coords, create_graph=True)
        count = len(chosen)
        total = _SURFACE * values[:count].abs().mean()
        total = total + _ELSEWHERE * torch.exp(-_SHARPNESS * values[count:].abs()).mean()
        total = total + _EIKONAL * (slope.norm(dim=1) - 1).abs().mean()
        if normals is not None:
            total = total + _NORMAL * (1 - F.cosine_similarity(slope[:count], normals[chosen], dim=1)).mean()
        return total

    return baseline.minimise(loss, 3, 1, steps=steps)
