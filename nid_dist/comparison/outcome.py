"""What a method made of an image, and the figures and tables of many such outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.evaluation.lpips import Perceptual
from nid_dist.evaluation.report import Column, Table

_COLUMNS = [
    Column("image"),
    Column("method"),
    Column("PSNR", "dB", ".2f"),
    Column("SSIM", "", ".4f"),
    Column("LPIPS", "", ".3f"),
    Column("numbers", "per image", ",.0f"),
    Column("numbers", "shared", ",.0f"),
    Column("operations", "GMAC per image", ".3f"),
    Column("time", "s per image", ".4f"),
    Column("rate", "images/s", ".2f"),
]


@dataclass(frozen=True)
class Outcome:
    """An image as a method represents it.

    Args:
        group: what it is averaged with, such as the side of the images.
        image: its name.
        line: whose method it is: the dictionary's or the network's name.
        method: its name.
        target: the image.
        picture: what the method made of it, clipped to [0, 1].
        seconds: to find the representation.
        numbers: that represent this image.
        shared: numbers that all images share.
        macs: multiplications with an addition, to represent the image without steps and to evaluate it once.
        trace: seconds and PSNR on the way.
    """

    group: str
    image: str
    line: str
    method: str
    target: Float32[np.ndarray, "H W d"]
    picture: Float32[np.ndarray, "H W d"]
    seconds: float
    numbers: int
    shared: int
    macs: float
    trace: list[tuple[float, float]] = field(default_factory=list)

    @property
    def psnr(self) -> float:
        """In decibels."""
        return psnr(self.picture, self.target)

    def figures(self, perceptual: Perceptual | None = None) -> dict[str, Any]:
        """The figures of the table."""
        return {
            "group": self.group,
            "image": self.image,
            "method": self.method,
            "psnr_db": self.psnr,
            "ssim": ssim(self.picture, self.target),
            "lpips": None if perceptual is None else perceptual(self.picture, self.target),
            "numbers": self.numbers,
            "shared": self.shared,
            "gmac": self.macs / 1e9,
            "seconds": self.seconds,
            "trace": self.trace,
        }


def means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The means over the images, by group and method.

    Args:
        rows: figures of outcomes.

    Returns:
        A row per group and method, in the order of their appearance.
    """
    found = []
    for group, method in dict.fromkeys((row["group"], row["method"]) for row in rows):
        own = [row for row in rows if (row["group"], row["method"]) == (group, method)]
        mean: dict[str, Any] = {"group": group, "image": f"{group}, mean of {len(own)}", "method": method}
        for key in own[0].keys() - mean.keys() - {"trace"}:
            values = [row[key] for row in own if row[key] is not None]
            mean[key] = float(np.mean(values)) if values else None
        found.append(mean)
    return found


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Rows of figures as a table."""
    keys = ["image", "method", "psnr_db", "ssim", "lpips", "numbers", "shared", "gmac", "seconds"]
    cells = [[*(row[key] for key in keys), 1 / row["seconds"] if row["seconds"] else None] for row in rows]
    return Table(_COLUMNS, cells)
