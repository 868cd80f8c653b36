"""Bytes of an image at a quality: compact codes of a dictionary, WebP and JPEG, each as coarse as that allows."""

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nid_dist.coding.method import Method
from nid_dist.compact.file import compact_bytes
from nid_dist.compact.stream import Symbols
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.report import Column, Row, Table
from nid_dist.model import Model
from nid_dist.tasks.comparison import ComparedMethod, Curves, Outcome, Reconstruction, series_of
from nid_dist.tasks.images.compact import Compactor, facts_of
from nid_dist.tasks.images.fit import ImageArray, fit_image

QUALITIES = (34.0, 36.0, 38.0, 40.0)
"""In dB, at which bytes are compared."""

FAMILY = "bytes"  # of the methods here

_COLUMNS = [
    Column("image", key="image"),
    Column("method", key="method"),
    Column("PSNR", "dB", ".2f", "psnr_db"),
    Column("bytes", "per image", ",.0f", "bytes"),
    Column("times WebP's", "", ".2f", "times_webp"),
]


def compression_methods(name: str, model: Model) -> list[ComparedMethod]:
    """A method for each quality, of the dictionary and of both formats.

    A format that does not reach the quality (WebP halves the resolution of colour) is at its best.
    """
    compactor = _Deepest(model)
    made: list[tuple[str, Callable[[ImageArray, float | None, float], Reconstruction]]] = [
        (f"{name}, compact", partial(_by_codes, compactor)),
        ("WebP", partial(_by_format, "WEBP")),
        ("JPEG", partial(_by_format, "JPEG")),
    ]
    return [
        ComparedMethod(f"{method}, {quality:g} dB", partial(_at, fit, quality), shown=False, family=FAMILY)
        for method, fit in made
        for quality in QUALITIES
    ]


def bytes_table(means: Sequence[Row]) -> Table:
    """The rows of these methods, with bytes relative to WebP's where WebP reaches the quality."""
    rows: list[Row] = []
    webp = {(row["group"], row["quality"]): row for row in means if row["method"].startswith("WebP")}
    for row in means:
        other = webp[row["group"], row["quality"]]
        ratio = row["bytes"] / other["bytes"] if other["reached"] == 1 else None
        rows.append({**row, "times_webp": ratio})
    return Table.of(_COLUMNS, rows)


def bytes_curves(outcomes: Sequence[Outcome]) -> Curves:
    """PSNR against bytes, means over the images."""
    rows = [{**outcome.row, "method": outcome.row["method"].rpartition(",")[0]} for outcome in outcomes]
    series = {}
    for name, (sizes, decibels) in series_of(rows, "bytes", "psnr_db").items():
        own = [row["quality"] for row in rows if row["method"] == name]
        chosen = [np.array(own) == quality for quality in QUALITIES]
        points = [(np.mean(np.array(sizes)[each]), np.mean(np.array(decibels)[each])) for each in chosen if each.any()]
        series[name] = ([point[0] for point in points], [point[1] for point in points])
    return Curves(series, "bytes per image", "PSNR (dB)", "PSNR against bytes")


def encoded(image: ImageArray, kind: str, decibels: float) -> tuple[bytes, ImageArray]:
    """The smallest file of Pillow's, WEBP or JPEG, that has a PSNR, and its picture; else the best there is."""
    ways = [{"method": 6}] if kind == "WEBP" else [{"optimize": True, "subsampling": each} for each in (0, 2)]
    found = [_least(image, kind, decibels, way) for way in ways]
    reached = [each for each in found if psnr(each[1], image) >= decibels]
    if reached:
        return min(reached, key=lambda each: len(each[0]))
    return max(found, key=lambda each: psnr(each[1], image))


def _least(image: ImageArray, kind: str, decibels: float, options: dict[str, Any]) -> tuple[bytes, ImageArray]:
    """At the lowest of the qualities 1 to 100 that has the PSNR, by bisection: higher ones are better."""
    low, high = 1, 100
    while low < high:
        middle = (low + high) // 2
        if psnr(_saved(image, kind, {**options, "quality": middle})[1], image) >= decibels:
            high = middle
        else:
            low = middle + 1
    return _saved(image, kind, {**options, "quality": high})


def _saved(image: ImageArray, kind: str, options: dict[str, Any]) -> tuple[bytes, ImageArray]:
    pixels: UInt8[np.ndarray, "H W d"] = np.rint(255 * image).astype(np.uint8)
    source, buffer = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]), io.BytesIO()
    source.save(buffer, kind, **options)
    with Image.open(io.BytesIO(buffer.getvalue())) as opened:
        picture = np.asarray(opened.convert(source.mode), np.float32).reshape(image.shape) / np.float32(255)
    return buffer.getvalue(), picture


class _Deepest:
    """The pursuit of the image that was asked for last, down to the best quality: others are its beginnings."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._kept: tuple[ImageArray, Compactor] | None = None

    def of(self, image: ImageArray) -> Compactor:
        """For an image, found again while it is the same."""
        if self._kept is None or self._kept[0] is not image:
            fit = fit_image(self._model, image, [Method("omp", 4)])["omp4"]
            self._kept = image, Compactor.to_reach(fit, max(QUALITIES))
        return self._kept[1]


def _by_codes(deepest: _Deepest, image: ImageArray, _: float | None, quality: float) -> Reconstruction:
    found = deepest.of(image).reaching(quality)
    codes = found.quantized
    symbols = Symbols(codes.values, codes.biases)
    size = len(compact_bytes(symbols, codes.step, codes.bias_step, facts_of(found)))
    return Reconstruction(lambda: found.picture, {"bytes": size, "quality": quality, "reached": found.psnr >= quality})


def _by_format(kind: str, image: ImageArray, _: float | None, quality: float) -> Reconstruction:
    content, picture = encoded(image, kind, quality)
    reached = psnr(picture, image) >= quality
    return Reconstruction(lambda: picture, {"bytes": len(content), "quality": quality, "reached": reached})


def _at(
    fit: Callable[[ImageArray, float | None, float], Reconstruction], quality: float, image: ImageArray, _: float | None
) -> Reconstruction:
    return fit(image, None, quality)
