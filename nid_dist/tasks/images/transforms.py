"""Images by the k largest coefficients a patch of fixed transforms: what a person would write in fifteen lines.

All keep the d channel means of a patch besides, as NID does, and are shown clipped.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from nid_dist.tasks.images import dct, pca
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.task import ImageTask
from nid_dist.tasks.images.tiling import Tiling

_SIGNALS = 32768  # training patches that principal components are those of, at most

Transform = Callable[[ImageArray, int], ImageArray]
"""An image from k coefficients a patch."""


def fixed_transforms(task: ImageTask) -> Mapping[str, Transform]:
    """The transforms of a task's patches, by name; PCA learns from its training patches.

    `pca`: the first k components; `pca_best`: the best k of all; `dct_best`: of cosines, in the colours of JPEG's kind;
    `dct_own`: in the principal colours of the training patches.
    """
    side = task.grid_shape[0]
    patches = task.sample(min(_SIGNALS, len(task.signals))).values.unflatten(1, task.grid_shape)
    learned = pca.fit_pca(patches, centre="patch")
    colours = dct.principal_colours(patches)

    def tiled(reconstruct: Callable[[Tensor, int], Tensor]) -> Transform:
        def transform(image: ImageArray, k: int) -> ImageArray:
            height, width = image.shape[:2]
            tiling = Tiling(height, width, side, side)
            found = reconstruct(tiling.split(image).unflatten(1, task.grid_shape), k)
            shown: np.ndarray = tiling.assemble(found.flatten(1, 2)).to(torch.float32).clamp(0, 1).numpy()
            return shown

        return transform

    return {
        "pca": tiled(lambda signals, k: pca.truncate(learned, signals, k)),
        "pca_best": tiled(lambda signals, k: pca.best_k(learned, signals, k)),
        "dct_best": tiled(dct.best_k),
        "dct_own": tiled(lambda signals, k: dct.best_k(signals, k, colours=colours)),
    }
