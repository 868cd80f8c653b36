"""Bring images to one size: centre crop, shorter side, square."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from skimage.transform import resize

from nid_dist.data.raster import MAX_PIXELS
from nid_dist.errors import UserError


def prepare(
    image: Float[np.ndarray, "H W d"],
    *,
    crop: int | None = None,
    short_side: int | None = None,
    size: int | None = None,
    name: str = "image",
) -> Float[np.ndarray, "H1 W1 d"]:
    """Crop, then resize, then make square, each where it is asked for; the image itself if nothing is to be done.

    Shrinking is preceded by a Gaussian against aliasing; interpolation is linear. The shape is that of
    `prepared_shape`.

    Args:
        image: in [0, 1].
        crop: side in pixels of a square centre crop, taken first.
        short_side: pixels of the shorter side after a resize that keeps the proportions.
        size: side in pixels of the square to which the largest centre square is resized, last.

    Raises:
        UserError: the crop is larger than the image, or the resized image is too large.
    """
    target = prepared_shape(image.shape[0], image.shape[1], crop=crop, short_side=short_side, size=size, name=name)
    if crop is not None:
        image = centre(image, crop)
    if short_side is not None:
        image = resized(image, *_scaled(image.shape[0], image.shape[1], short_side))
    if size is not None:
        image = resized(centre(image, min(image.shape[:2])), size, size)
    assert image.shape[:2] == target
    return np.ascontiguousarray(image)


def prepared_shape(
    height: int,
    width: int,
    *,
    crop: int | None = None,
    short_side: int | None = None,
    size: int | None = None,
    name: str = "image",
) -> tuple[int, int]:
    """The height and width in pixels after `prepare`, which takes the same arguments, without preparing anything.

    Raises:
        UserError: the crop is larger than the image, or the resized image is too large.
    """
    if crop is not None:
        if crop > min(height, width):
            raise UserError(
                name,
                found=f"{height}x{width} pixels",
                expected=f"at least signals.crop {crop} on each side",
                hint="choose a smaller signals.crop, or remove the image",
            )
        height = width = crop
    if short_side is not None:
        height, width = _scaled(height, width, short_side)
        if height * width > MAX_PIXELS:
            raise UserError(
                name,
                found=f"{height}x{width} pixels after the resize to signals.short_side",
                expected=f"at most {MAX_PIXELS} pixels",
                hint="choose a smaller signals.short_side, or cut the image",
            )
    return (height, width) if size is None else (size, size)


def _scaled(height: int, width: int, short_side: int) -> tuple[int, int]:
    short = min(height, width)
    return max(short_side, round(height * short_side / short)), max(short_side, round(width * short_side / short))


def centre(image: Float[np.ndarray, "H W d"], side: int) -> Float[np.ndarray, "s s d"]:
    """The square of a side in the middle of an image."""
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side]


def resized(
    image: Float[np.ndarray, "H W d"], height: int, width: int, blur_as: int | None = None
) -> Float[np.ndarray, "H1 W1 d"]:
    """Resize as `prepare` does, to any shape; the image itself where it has it.

    `blur_as`: a square image is blurred as for so many pixels a side, on whatever grid it is then taken.
    """
    if image.shape[:2] == (height, width) and blur_as in (None, height):
        return image
    if height >= image.shape[0] and width >= image.shape[1] and (blur_as is None or blur_as >= image.shape[0]):
        # The same as below, many times as fast.
        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        return F.interpolate(planes, (height, width), mode="bilinear")[0].permute(1, 2, 0).numpy()
    blur = None if blur_as is None else max(0.0, (image.shape[0] / blur_as - 1) / 2)
    sigma = None if blur is None else (blur, blur, 0.0)
    made = resize(
        image, (height, width), order=1, mode="edge", anti_aliasing=True, anti_aliasing_sigma=sigma, preserve_range=True
    )
    return made.astype(image.dtype, copy=False)
