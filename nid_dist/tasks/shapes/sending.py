"""What was drawn for shapes, as tensors on a device."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.device import to_device

Points = tuple[Tensor, Tensor, Tensor | None]
"""Coordinates [T, P, 3] and distances [T, P] of shapes, and clouds [T, G, 6] where a gate sees some."""


def oriented(cloud: Float[Tensor, "T G 6"], flags: Sequence[bool]) -> Float[Tensor, "T G 6"]:
    """Clouds, some of which are to be read without normals."""
    kept = np.array([[1, 1, 1, *[int(each)] * 3] for each in flags], np.float32)[:, None]
    return cloud * to_device(torch.from_numpy(kept), cloud.device)


def sent(arrays: Sequence[np.ndarray | None], device: torch.device) -> Tensor:
    """An array of each shape, as one tensor on the device."""
    return to_device(torch.from_numpy(np.stack([each for each in arrays if each is not None])), device)
