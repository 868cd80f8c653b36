"""Sinograms of the signals of a source: exact ones of phantoms, of pictures those of finer ones than are trained on.

A scan of few views is part of the scan of many, so that each signal is scanned once.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32

from nid_dist.data.cache import ImageCache
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.measurements.radon import Radon, nodes_for
from nid_dist.tasks.ct.config import Tomography
from nid_dist.tasks.ct.phantoms import FINENESS
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.preparation import centre, prepare, resized
from nid_dist.tasks.images.sources import ImageRef

_FINER = 4  # times more pixels a side than the training's, at most, of a picture that is scanned


class Scans:
    """The scans of some signals."""

    def __init__(self, refs: Sequence[ImageRef], signals: ImagesSection, tomography: Tomography) -> None:
        assert signals.size is not None, "the configuration requires signals.size with tomography"
        self._refs, self._signals, self._tomography = list(refs), signals, tomography
        self._size = signals.size
        self._full = self.geometry(max(tomography.views))
        self._cache = ImageCache(signals.cache_mb * 2**20)

    def geometry(self, views: int) -> Geometry:
        """Where a scan of some views measures."""
        return scan_geometry(self._tomography, self._size, views)

    def sinogram(self, index: int, views: int) -> Float32[np.ndarray, "M"]:
        """The scan of a signal, without noise: line integrals, view by view; `views` divides the largest number.

        Raises:
            UserError: when the signal cannot be read.
        """
        full = self._cache.get(index, lambda: self._scan(self._refs[index]))
        part: np.ndarray = full[:: self._full.views // views].reshape(-1)
        return part

    def _scan(self, ref: ImageRef) -> Float32[np.ndarray, "V B"]:
        return scan(ref, self._signals, self._full).reshape(self._full.views, self._full.bins)


def scan_geometry(tomography: Tomography, size: int, views: int) -> Geometry:
    """The geometry of a configured scan: views at equal angles, with a detector that sees the whole disc."""
    return Geometry.even(views, tomography.bins or size, tomography.source)


def scan(ref: ImageRef, signals: ImagesSection, geometry: Geometry) -> Float32[np.ndarray, "M"]:
    """Scan a signal without noise: line integrals, in units of value times radius.

    Raises:
        UserError: when it cannot be read.
    """
    if ref.phantom is not None:
        exact: np.ndarray = ref.phantom().sinogram(geometry).astype(np.float32)
        return exact
    assert signals.size is not None
    loaded = ref.load()
    side = min(_FINER * signals.size, *loaded.shape[:2])
    fine = prepare(loaded, crop=signals.crop, short_side=signals.short_side, size=side, name=ref.name)
    lines = Radon(geometry.finer(FINENESS), nodes_for(side)).of_image(torch.from_numpy(fine))
    measured: np.ndarray = lines.reshape(-1, FINENESS).mean(1).numpy().astype(np.float32)
    return measured


def finer_image(ref: ImageRef, signals: ImagesSection, times: int) -> Float32[np.ndarray, "s s"]:
    """What `prepare` makes of a signal, on a grid `times` finer: means over as much as a pixel, at points between them.

    Raises:
        UserError: when it cannot be read.
    """
    assert signals.size is not None
    side = times * signals.size
    if ref.phantom is not None:
        points = np.pad(ref.phantom().image(FINENESS * signals.size, 1), FINENESS)
        sums = np.pad(points.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        # The pixel about a point of the finer grid begins half a pixel before it.
        first = FINENESS + ((np.arange(side) + 0.5) * FINENESS / times - FINENESS / 2).astype(int)
        last = first + FINENESS
        within = sums[last][:, last] - sums[first][:, last] - sums[last][:, first] + sums[first][:, first]
        means: np.ndarray = (within / FINENESS**2).astype(np.float32)
        return means
    whole = prepare(ref.load(), crop=signals.crop, short_side=signals.short_side, name=ref.name)
    square = centre(whole, min(whole.shape[:2]))
    fine: np.ndarray = resized(square, side, side, blur_as=signals.size)[..., 0]
    return fine


def within_disc(ref: ImageRef) -> ImageRef:
    """The largest disc in the middle of a picture, and zeros in the corners: what a scanner can see; square."""

    def load() -> np.ndarray:
        whole = ref.load()
        side = min(whole.shape[:2])
        top, left = (whole.shape[0] - side) // 2, (whole.shape[1] - side) // 2
        axis = (np.arange(side) + 0.5) * 2 / side - 1
        inside = np.hypot(axis[:, None], axis[None]) <= 1
        cut: np.ndarray = whole[top : top + side, left : left + side] * inside[..., None].astype(np.float32)
        return cut

    return replace(ref, load=load, size=None)


def scannable(ref: ImageRef) -> ImageRef:
    """A phantom as it is; of a picture what lies within the disc."""
    return ref if ref.phantom is not None else within_disc(ref)


def doses(tomography: Tomography) -> list[Dose]:
    """The doses of a configuration."""
    return [Dose(photons, tomography.attenuation, tomography.electronic) for photons in tomography.photons]
