"""How far measurements are from what a dictionary can be: the noise under which they are most probable.

Measurements y = R f + e of a signal with a Gaussian prior are Gaussian, too, whatever the code: their density tells
the standard deviation of e, noise and what the dictionary cannot represent together (MacKay 1992, "Bayesian
interpolation").
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.coding.prior import Prior
from nid_dist.coding.solvers.map import heads_operator
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Measurement
from nid_dist.precision import full_precision

# Of the measurements' root mean square; tried from there to all of it. Fewer measurements than a head has numbers can
# be met exactly, and would be believed to the last digit.
_LEAST, _STEPS = 5e-3, 48


@torch.no_grad()
@full_precision()
def likely_noise(
    dictionary: Dictionary, measurement: Measurement, measured: Float[Tensor, "T M d"], prior: Prior
) -> float:
    """The standard deviation of independent noise under which measurements of T signals together are most probable.

    Raises:
        UserError: for deep experts, which have no merged head.
    """
    gram, cross, energy = heads_operator(dictionary, measurement, measured)
    mean = prior.mean.double()
    root = prior.root()
    squares, axes = torch.linalg.eigh(root.t() @ gram @ root)
    squares = squares.clamp_min(0)
    # About what the prior expects.
    along = (cross - gram @ mean) @ root @ axes
    rest = (energy - 2 * cross @ mean + mean @ gram @ mean).clamp_min(0)
    numbers = measured.shape[1] * measured.shape[2]
    scale = (energy.mean() / numbers).sqrt().clamp_min(1e-12)
    tried = scale * torch.logspace(math.log10(_LEAST), 0, _STEPS, dtype=torch.float64, device=scale.device)
    noise = tried.square()[:, None]
    determinant = numbers * noise[:, 0].log() + (squares / noise).log1p().sum(1)
    explained = along.square().mean(0) / (noise + squares)
    loss = determinant + (rest.mean() - explained.sum(1)) / noise[:, 0]
    return float(tried[loss.argmin()])
