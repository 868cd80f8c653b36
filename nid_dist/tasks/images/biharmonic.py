"""Classical inpainting: unknown pixels solve the biharmonic equation with the known ones as boundary."""

import numpy as np
from jaxtyping import Bool, Float, Float32
from skimage.restoration import inpaint_biharmonic


def biharmonic(image: Float[np.ndarray, "H W d"], known: Bool[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W d"]:
    """Fill what is not known (Damelin and Hoang 2018; scikit-image's) in an image in [0, 1], clipped to that again.

    At least one pixel is known; what stands at the others is not looked at.
    """
    if known.all():
        return image.astype(np.float32)
    hidden = np.where(known[..., None], image, 0.0).astype(np.float64)
    filled = inpaint_biharmonic(hidden, ~known, channel_axis=2)
    return np.clip(filled, 0, 1).astype(np.float32)
