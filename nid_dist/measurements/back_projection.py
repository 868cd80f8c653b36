"""Filtered back-projection, for any number of sinograms at once: what a gate sees of a signal that was only scanned.

Kak and Slaney 1988: chapter 3.3 for parallel beams, 3.4.2 for fans on equally spaced bins, 3.4.1 for bins at equal
angles. Linear in the sinogram.
Views may lie at any angles, each of which stands for the arc that is nearest to it.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from scipy.sparse import coo_matrix, csr_matrix
from torch import Tensor

from nid_dist.device import to_device
from nid_dist.measurements.geometry import Geometry


@dataclass(frozen=True, eq=False)
class BackProjection:
    """Filtered back-projection onto a square of pixels."""

    geometry: Geometry  # of the sinograms
    side: int  # of the square, [-1, 1]^2, in pixels

    def __call__(self, measured: Float[Tensor, "T M"]) -> Float[Tensor, "T S S"]:
        """Reconstruct sinograms, given view by view, within the disc: images that are not clipped, 0 outside of it.

        They are made on the sinograms' device, in their precision, without waiting for it.
        """
        views, bins = self.geometry.views, self.geometry.bins
        cosines, filter_, pixels, lines, shares = self._on(measured.device, measured.dtype)
        weighted = measured.unflatten(1, (views, bins)) * cosines
        filtered = torch.fft.irfft(torch.fft.rfft(weighted, self._length) * filter_, self._length)[..., :bins]
        columns = filtered.flatten(1).t().contiguous()
        flat = F.embedding_bag(lines, columns, pixels, mode="sum", per_sample_weights=shares, include_last_offset=True)
        return flat.t().reshape(-1, self.side, self.side)

    def _on(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Cosines, the filter's spectrum, and the sparse rows of `_spreading`, sent once."""
        if (device, dtype) not in self._sent:
            spreading = self._spreading
            spectrum = np.fft.rfft(self._kernel).real / self.geometry.pitch
            numbers = [torch.from_numpy(each).to(dtype) for each in (self._cosines, spectrum, spreading.data)]
            places = [torch.from_numpy(each.astype(np.int64)) for each in (spreading.indptr, spreading.indices)]
            cosines, filter_, shares = (to_device(each, device) for each in numbers)
            pixels, lines = (to_device(each, device) for each in places)
            self._sent[device, dtype] = cosines, filter_, pixels, lines, shares
        return self._sent[device, dtype]

    @cached_property
    def _sent(self) -> dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]]:
        return {}

    @property
    def _length(self) -> int:
        """Of the transformed views, so that they do not overlap themselves."""
        return 2 ** math.ceil(math.log2(2 * self.geometry.bins))

    @property
    def _kernel(self) -> Float64[np.ndarray, "length"]:
        kernel, geometry = ramp(self.geometry.bins, self._length), self.geometry
        if geometry.source is None or geometry.detector == "flat":
            return kernel
        lags = np.minimum(np.arange(self._length), self._length - np.arange(self._length))
        angles = np.where(lags < geometry.bins, lags, 0) * geometry.pitch / geometry.source
        return kernel / np.sinc(angles / math.pi) ** 2

    @property
    def _cosines(self) -> Float64[np.ndarray, "B"]:
        return np.cos(self.geometry.fan_angles)

    @cached_property
    def _spreading(self) -> csr_matrix:
        """From filtered sinograms to pixels: each view read where the pixel's line meets the detector."""
        geometry, pixels = self.geometry, self.side**2
        axis = (np.arange(self.side) + 0.5) * 2 / self.side - 1
        rows, columns = (grid.flatten() for grid in np.meshgrid(axis, axis, indexing="ij"))
        angles = geometry.angles[:, None]
        across = columns * np.cos(angles) - rows * np.sin(angles) - geometry.shifts[:, None]
        weight = arcs(geometry)[:, None] * (np.hypot(rows, columns) <= 1)
        if geometry.source is not None:
            depth = 1 + (-columns * np.sin(angles) - rows * np.cos(angles)) / geometry.source
            if geometry.detector == "arc":
                slope = across / geometry.source
                across, weight = geometry.source * np.arctan2(slope, depth), weight / (depth**2 + slope**2)
            else:
                across, weight = across / depth, weight / depth**2
        place = across / geometry.pitch + geometry.axis
        low = np.floor(place).astype(np.int64)
        pixel, first = np.broadcast_to(np.arange(pixels), place.shape), geometry.bins * np.arange(geometry.views)
        entries = []
        for low_or_high in (0, 1):
            bin_ = low + low_or_high
            share = weight * (1 - np.abs(place - bin_))
            inside = (bin_ >= 0) & (bin_ < geometry.bins) & (share != 0)
            entries.append((share[inside], pixel[inside], (first[:, None] + bin_)[inside]))
        share, pixel, line = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        return coo_matrix((share, (pixel, line)), (pixels, geometry.size)).tocsr()


def ramp(bins: int, length: int) -> Float64[np.ndarray, "length"]:
    """The ramp filter's kernel on unit bins, band-limited, with negative lags at the end (Kak and Slaney, eq. 3.61).

    It is 1/4 at lag 0, -1 / (pi lag)^2 at odd lags, 0 at even ones.
    """
    lags = np.minimum(np.arange(length), length - np.arange(length))
    kernel = np.zeros(length)
    kernel[0] = 0.25
    odd = (lags % 2 == 1) & (lags < bins)
    kernel[odd] = -1 / (math.pi * lags[odd]) ** 2
    return kernel


def arcs(geometry: Geometry) -> Float64[np.ndarray, "V"]:
    """The part of the integral over half a turn that each view stands for, in radians.

    Half of the gaps to both neighbours, on a circle of half a turn (parallel) or a whole one (fan, counted half).
    """
    turn = math.pi if geometry.source is None else 2 * math.pi
    angles = geometry.angles % turn
    order = np.argsort(angles, kind="stable")
    gaps = np.diff(angles[order], append=angles[order[0]] + turn)
    # Where an arc was not scanned at all, the views at its ends do not stand for it.
    gaps = np.minimum(gaps, 2 * np.median(gaps))
    found = np.empty(len(angles))
    found[order] = (gaps + np.roll(gaps, 1)) / 2
    return found * math.pi / turn
