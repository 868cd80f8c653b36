"""Paint over an image: writing, stripes, boxes and dead pixels, whose colours stand out of it in groups.

What no sparse fit can tell from the image, as it fills whole patches: its colours are exactly the same at many pixels,
in groups whose surroundings are of quite other colours. Saturated skies and shadows are flat as well, but they fade
into what is around them. Paint that varies, and paint of the colour of what it covers, are not found.
"""

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

# All chosen on photographs and portraits that are for validation or training, clean and spoiled.
_SAME = 1.5 / 255  # between pixels of one paint, in each channel: it has no noise but that of storing
_FAR = 0.15  # between a paint and what is no part of it, in some channel
_CONTRAST = 0.5  # share of the surroundings that are far, of a group that shows that there is paint
_ALSO = 0.4  # and of one that is believed to be the same paint
_SHARE = 0.3  # of a colour's pixels, in groups of contrast
_PIXELS = 0.003  # of the image, in groups of contrast: at least; clean pictures have at most a third of it
_MANY = 0.01  # of the image, in groups of contrast that are enough whatever the share
_STROKE = 2  # pixels that a group has at least that may have a smoothed edge
_NEAR = 9  # side of the square over which what is beyond an edge is averaged
_MIXED = 0.2  # share of paint in a pixel at its edge
_SMOOTHED = 0.3  # of the pixels at its edges, those that are mixed where paint is smoothed at all
_COLOURS = 16  # the most frequent ones
_TOUCHING = np.ones((3, 3), bool)


def find_paint(image: Float32[np.ndarray, "H W d"]) -> Bool[np.ndarray, "H W"]:
    """Which pixels are painted over.

    The clearest paint is found first: of what it leaves of the image, the surroundings of other colours are looked at.
    """
    painted, colours = np.zeros(image.shape[:2], bool), list(_frequent(image))
    while colours:
        found = [_paint(image, colour, painted) for colour in colours]
        best = max(range(len(found)), key=lambda index: found[index][0])
        if found[best][0] <= 0:
            break
        painted |= found[best][1]
        painted |= _edge(image, colours[best], found[best][1], painted)
        # A colour that is nowhere clear yet is clear less still when there is less around it.
        colours = [each for i, each in enumerate(colours) if i != best and found[i][0] > 0]
    return painted


def _paint(
    image: Float32[np.ndarray, "H W d"], colour: Float32[np.ndarray, "d"], painted: Bool[np.ndarray, "H W"]
) -> tuple[float, Bool[np.ndarray, "H W"]]:
    """How clearly a colour is that of a paint, 0 where it is not, and where it is."""
    distance = np.abs(image - colour).max(2)
    same = (distance <= _SAME) & ~painted
    groups, count = ndimage.label(same, _TOUCHING)
    sizes = np.bincount(groups.ravel(), minlength=count + 1)[1:]
    # A pixel that touches several groups counts for one of them.
    grown = ndimage.grey_dilation(groups, footprint=_TOUCHING)
    around = (groups == 0) & (grown > 0) & ~painted
    near = np.bincount(grown[around], minlength=count + 1)[1:]
    far = np.bincount(grown[around & (distance > _FAR)], minlength=count + 1)[1:]
    contrast = far / np.maximum(near, 1)
    clear = np.where(contrast >= _CONTRAST, sizes, 0)
    enough = clear.sum() >= max(_SHARE * sizes.sum(), _PIXELS * same.size)
    if not (enough and count) and clear.sum() < _MANY * same.size:
        return 0.0, same
    where = same & np.concatenate([[False], contrast >= _ALSO])[groups]
    return float((clear * contrast).sum() / sizes.sum()), where


def _edge(
    image: Float32[np.ndarray, "H W d"],
    colour: Float32[np.ndarray, "d"],
    paint: Bool[np.ndarray, "H W"],
    painted: Bool[np.ndarray, "H W"],
) -> Bool[np.ndarray, "H W"]:
    """The pixels beside a paint that are mixed with it, as smoothed writing is; none of a paint with hard edges.

    What a pixel would be without is the mean of what is beyond the edge.
    """
    groups, _ = ndimage.label(paint, _TOUCHING)
    strokes = (np.bincount(groups.ravel()) >= _STROKE)[groups] & paint  # dead pixels have no edge
    beside = ndimage.binary_dilation(strokes, _TOUCHING) & ~painted
    beyond = (~beside & ~painted)[..., None].astype(np.float32)
    near = ndimage.uniform_filter(beyond, (_NEAR, _NEAR, 1))
    around = ndimage.uniform_filter(beyond * image, (_NEAR, _NEAR, 1)) / np.maximum(near, 1e-6)
    towards = colour - around
    size = np.square(towards).sum(2)
    mixed = ((image - around) * towards).sum(2) / np.maximum(size, 1e-6)
    told = beside & (near[..., 0] > 0.01) & (size > _FAR**2)
    # Texture lies on both sides of what is around, paint on one.
    excess = (told & (mixed > _MIXED)).sum() - (told & (mixed < -_MIXED)).sum()
    if excess < _SMOOTHED * max(1, told.sum()):
        return np.zeros_like(paint)
    return told & (mixed > _MIXED / 2)


def _frequent(image: Float32[np.ndarray, "H W d"]) -> Float32[np.ndarray, "K d"]:
    """The most frequent colours, of 256 levels, that may be paint."""
    levels = np.round(255 * np.clip(image, 0, 1)).astype(np.int64).reshape(-1, image.shape[2])
    keys = levels @ (256 ** np.arange(image.shape[2]))
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_COLOURS]
    chosen = order[counts[order] >= max(2, _PIXELS * len(levels) / 2)]
    return (levels[first[chosen]] / 255).astype(np.float32)
