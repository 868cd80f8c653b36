"""The discrete cosine transform of a patch: what a fixed dictionary, JPEG's, reaches with k coefficients.

A coefficient is one value of the orthonormal two-dimensional DCT-II of the whole patch in one channel of the colour
basis below; k of them are k numbers per patch, spread over the channels as serves best. NID's code has a bias per
channel besides, so by default the d channel means (the constant terms) are free here too: k coefficients plus d means.

Colours are turned into an orthonormal opponent basis first, as JPEG turns them into YCbCr: the channels of photographs
are strongly correlated, and lightness carries most of the energy. YCbCr itself is not orthogonal, and the largest
coefficients would then not be the best ones. Other numbers of channels than three are left as they are.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import dctn, idctn
from torch import Tensor

from nid_dist.tasks.images.pca import keep_largest

# Rows: lightness, red against blue, green against magenta; an orthonormal rotation (determinant 1).
OPPONENT = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]]) / np.sqrt([[3.0], [2.0], [6.0]])


def principal_colours(signals: Float[Tensor, "T H W d"]) -> Float[np.ndarray, "d d"]:
    """Orthonormal rows: the principal axes of what the channels of signals vary by, about each signal's means."""
    centred = (signals - signals.mean((1, 2), keepdim=True)).flatten(0, 2).double()
    axes: np.ndarray = torch.linalg.eigh(centred.t() @ centred).eigenvectors.t().flip(0).cpu().numpy()
    return axes


def transform(
    signals: Float[Tensor, "T H W d"], colours: Float[np.ndarray, "d d"] | None = None
) -> Float[Tensor, "T H W d"]:
    """Orthonormal DCT-II over rows and columns of patches, in an orthonormal basis of colours.

    None: the opponent basis where d = 3, and the channels themselves elsewhere.

    It is in float64, vertical frequency first; entry [0, 0] of a channel is √(H W) times its mean.

    Source: Ahmed, Natarajan and Rao, "Discrete cosine transform", IEEE Transactions on Computers 1974.
    """
    values = signals.detach().cpu().double().numpy()
    values = values @ _basis(colours, values.shape[-1]).T
    return torch.from_numpy(dctn(values, type=2, norm="ortho", axes=(1, 2)))


def inverse(
    coefficients: Float[Tensor, "T H W d"], colours: Float[np.ndarray, "d d"] | None = None
) -> Float[Tensor, "T H W d"]:
    """The inverse of `transform`, in float64."""
    values = idctn(coefficients.detach().cpu().double().numpy(), type=2, norm="ortho", axes=(1, 2))
    return torch.from_numpy(values @ _basis(colours, values.shape[-1]))


def best_k(
    signals: Float[Tensor, "T H W d"],
    k: int,
    *,
    free_mean: bool = True,
    colours: Float[np.ndarray, "d d"] | None = None,
) -> Float[Tensor, "T H W d"]:
    """Reconstruct patches from their k largest DCT coefficients (at most all) over all frequencies and channels.

    The transform is orthonormal, so this is the best approximation with k of its coefficients. Like NID's support,
    the choice of the k indices is not counted as coefficients. The reconstructions are not clipped. Three channels are
    taken as red, green, blue.

    Args:
        free_mean: keep the d constant terms (hence the channel means) besides the k, as NID keeps its d biases;
            without it they compete for the k like any other coefficient.
        colours: as for `transform`.

    Raises:
        ValueError: k is negative.
    """
    coefficients = transform(signals, colours)
    free = torch.zeros_like(coefficients)
    if free_mean:
        free[:, 0, 0] = coefficients[:, 0, 0]
    kept = keep_largest((coefficients - free).flatten(1), k).reshape(coefficients.shape)
    return inverse(kept + free, colours).to(signals)


def _basis(colours: Float[np.ndarray, "d d"] | None, channels: int) -> Float[np.ndarray, "d d"]:
    if colours is not None:
        return colours
    return OPPONENT if channels == 3 else np.eye(channels)
