"""A clip of which everything is known: sprites over a photograph whose light changes, with noise on all of it."""

from dataclasses import dataclass

import numpy as np
import skimage.data
from jaxtyping import Bool, Float32
from skimage.transform import resize

_LANES = 6  # one sprite each, so that no pixel is covered by two
_SPEEDS = (0.6, 1.0, 1.5, 2.2, 3.0)  # of the sprites that never rest, in pixels per frame where there are 144 columns
_HASTE = 4.0  # of the one that pauses, before and after
_PAUSE = 40 / 90  # of the clip


@dataclass(frozen=True)
class Clip:
    """A clip with its truth."""

    frames: Float32[np.ndarray, "T H W d"]  # what a camera would give, in [0, 1]
    background: Float32[np.ndarray, "T H W d"]  # what is behind the sprites, flicker included, noise not
    foreground: Bool[np.ndarray, "T H W"]  # where there is a sprite
    pausing: Bool[np.ndarray, "T H W"]  # where there is the one that pauses


def synthetic_clip(
    frames: int = 90,
    height: int = 108,
    width: int = 144,
    *,
    noise: float = 0.02,
    flicker: float = 0.05,
    drift: float = 0.0,
    texture: float = 0.0,
    photograph: str = "chelsea",
    seed: int = 0,
) -> Clip:
    """Make a clip: five sprites of different speeds and one that pauses for 4/9 of the clip.

    No pixel is covered in half of the frames.

    Args:
        height: rows, at least 48.
        noise: standard deviation.
        flicker: of the light, relative: a wave of this height and a fifth of it at random.
        drift: of the light, relative: how much brighter the last frame is than the first.
        texture: standard deviation of the background's grain, as fine as the pixels.
        photograph: one that scikit-image ships.
    """
    generator = np.random.default_rng(seed)
    photo = _photograph(photograph, height, width)
    if texture:
        photo = np.clip(photo + texture * np.random.default_rng([seed, 1]).normal(size=(height, width, 1)), 0.02, 0.88)
    time = np.arange(frames)
    gain = 1 + flicker * (np.sin(2 * np.pi * time / 23) + 0.2 * generator.normal(size=frames))
    gain = gain * (1 + drift * (time / max(1, frames - 1) - 0.5))
    background = np.clip(photo * gain[:, None, None, None], 0, 1)
    shown = background.copy()
    places = _places(frames, width, generator)
    foreground, pausing = (np.zeros((frames, height, width), bool) for _ in range(2))
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    lane = height / _LANES
    for sprite, columns_of in enumerate(places):
        radius = np.array([0.36 * lane, 0.05 * width * generator.uniform(0.8, 1.0)])
        colour, stripe = generator.uniform(0, 1, 3), generator.uniform(0.3, 1.0)
        centre = lane * (sprite + 0.5)
        for frame, column in enumerate(columns_of):
            across = columns - column
            if sprite < len(_SPEEDS):
                across = (across + width / 2) % width - width / 2  # what leaves on one side comes back on the other
            inside = ((rows - centre) / radius[0]) ** 2 + (across / radius[1]) ** 2 < 1
            shade = 0.85 + 0.15 * np.sin(stripe * across[inside])
            shown[frame][inside] = colour * shade[:, None]
            foreground[frame] |= inside
            if sprite == len(_SPEEDS):
                pausing[frame] = inside
    noisy = shown + noise * generator.normal(size=shown.shape)
    return Clip(np.clip(noisy, 0, 1).astype(np.float32), background.astype(np.float32), foreground, pausing)


def _photograph(name: str, height: int, width: int) -> Float32[np.ndarray, "H W 3"]:
    """The largest part, from the middle, of these proportions, darkened so that flicker does not clip it."""
    image = np.asarray(getattr(skimage.data, name)(), np.float64) / 255
    scale = min(image.shape[0] / height, image.shape[1] / width)
    rows, columns = int(scale * height), int(scale * width)
    top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
    part = image[top : top + rows, left : left + columns]
    return (0.05 + 0.8 * resize(part, (height, width), anti_aliasing=True)).astype(np.float32)


def _places(frames: int, width: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Columns of the sprites' centres, by sprite and frame."""
    time, unit = np.arange(frames), width / 144
    moving = [
        generator.uniform(0, width) + (-1) ** sprite * speed * unit * time for sprite, speed in enumerate(_SPEEDS)
    ]
    rest = round(_PAUSE * frames)
    begin = (frames - rest) // 2
    travelled = np.minimum(time, begin) + np.maximum(time - begin - rest, 0)
    return [*moving, width / 2 + _HASTE * unit * (travelled - begin)]
