"""A network per shape from oriented points: SIREN with eikonal and normal terms (Sitzmann et al. 2020, section 4.2)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nid_dist.baselines.inr import Baseline, Fitted, Network

# The weights of the paper's released code: on the surface, normals, no surface elsewhere, unit gradients.
_SURFACE, _NORMAL, _ELSEWHERE, _EIKONAL = 3e3, 1e2, 1e2, 5e1
_SHARPNESS = 100.0  # of exp(-a |f|), which keeps f from zero off the surface
_DRAWN = 512  # points of the cube in a step; of the cloud as many, or all where it has fewer


def fit_oriented_points(
    baseline: Baseline, points: Float[Tensor, "P 3"], normals: Float[Tensor, "P 3"] | None
) -> Fitted:
    """Fit a signed distance to a cloud in the cube, negative inside where normals are given (None: no such term)."""
    generator, device = torch.Generator().manual_seed(0), baseline.device
    points, normals = points.to(device), None if normals is None else normals.to(device)

    def loss(network: Network) -> Tensor:
        chosen = torch.randperm(len(points), generator=generator)[:_DRAWN].to(device)
        drawn = (2 * torch.rand(_DRAWN, 3, generator=generator) - 1).to(device)
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

    return baseline.minimise(loss, 3, 1)
