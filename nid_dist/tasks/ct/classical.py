"""Classical reconstruction: filtered back-projection, SART and total variation, by scikit-image.

scikit-image's axis of rotation is the centre of a pixel and of a bin (`Geometry.skimage`), so that its grid is ours
where the side is odd and the detector has as many bins as the image has pixels; of an even side where the scan is its
own. Its integrals are in units of pixels.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64
from scipy.sparse import coo_matrix, csr_matrix, vstack
from skimage.restoration import denoise_tv_chambolle
from skimage.transform import iradon, iradon_sart

from nid_dist.errors import UserError
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.radon import Radon, nodes_for
from nid_dist.measurements.raster import corners

_LINES = 4  # in a bin
_INNER = 10  # iterations of a denoising by total variation

Image = Float64[np.ndarray, "S S"]


@dataclass(frozen=True, eq=False)
class Classical:
    """Reconstruction on a square of pixels from one sinogram, given view by view.

    Raises:
        UserError: for a geometry that scikit-image has no word for.
    """

    geometry: Geometry  # parallel beams, as many bins as `side`, over the whole disc, about scikit-image's axis
    side: int  # of the square; odd, but in scikit-image's own geometry

    def __post_init__(self) -> None:
        geometry = self.geometry
        known = Geometry.skimage(geometry.angles, self.side)
        fits = geometry.source is None and geometry.bins == self.side
        if not fits or not np.allclose(known.lines[1].numpy(), geometry.lines[1].numpy(), atol=1e-6):
            raise UserError(
                "the comparison with scikit-image",
                found=f"{geometry.beam} beams, {geometry.bins} bins of width {geometry.width:g} in all, the "
                f"axis at bin {geometry.axis:g}, and {self.side} pixels a side",
                expected="parallel beams, an odd number of pixels a side, and as many bins over the disc, about its "
                "middle",
                hint="set signals.size to an odd number, tomography.bins and tomography.source to null",
            )

    def fbp(self, measured: Float[np.ndarray, "M"], window: Literal["ramp", "hann"] = "ramp") -> Image:
        """Filtered back-projection, not clipped; `window` of the ramp filter ("ramp": none)."""
        image: Image = iradon(self._pixels(measured), self._degrees, filter_name=window, circle=True)
        return image

    def sart(self, measured: Float[np.ndarray, "M"], iterations: int) -> Image:
        """The simultaneous algebraic reconstruction technique (Andersen and Kak 1984), within [0, 1]."""
        image: Image | None = None
        for _ in range(iterations):
            image = iradon_sart(self._pixels(measured), self._degrees, image=image, clip=(0, 1))
        assert image is not None
        return image

    def total_variation(self, measured: Float[np.ndarray, "M"], weight: float, iterations: int = 120) -> Image:
        """min over images in [0, 1] of |A x - y|^2 / 2 + weight * TV(x), by FISTA (Beck and Teboulle 2009).

        Its proximal step is scikit-image's `denoise_tv_chambolle`; A integrates an interpolated image over bins.
        """
        matrix, step = self._matrix, 1 / self._square_norm
        image = ahead = np.zeros((self.side, self.side))
        momentum = 1.0
        for _ in range(iterations):
            error = matrix @ ahead.reshape(-1) - measured
            descended = ahead - step * (matrix.T @ error).reshape(ahead.shape)
            denoised = denoise_tv_chambolle(descended, weight=step * weight, eps=1e-6, max_num_iter=_INNER)
            following = np.clip(denoised, 0, 1)
            after = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = following + (momentum - 1) / after * (following - image)
            image, momentum = following, after
        return image

    def _pixels(self, measured: Float[np.ndarray, "M"]) -> Float64[np.ndarray, "B V"]:
        return measured.reshape(self.geometry.views, -1).T.astype(np.float64) * (self.side / 2)

    @property
    def _degrees(self) -> Float64[np.ndarray, "V"]:
        return np.rad2deg(self.geometry.angles)

    @cached_property
    def _matrix(self) -> csr_matrix:
        return image_matrix(self.geometry, self.side)

    @cached_property
    def _square_norm(self) -> float:
        vector = np.ones(self.side**2)
        for _ in range(30):
            vector = self._matrix.T @ (self._matrix @ vector)
            size = float(np.linalg.norm(vector))
            vector /= size
        return 1.02 * size


def image_matrix(geometry: Geometry, side: int, lines: int = _LINES) -> csr_matrix:
    """The sparse matrix from a square image, interpolated linearly, to means of line integrals, `lines` in a bin."""
    radon = Radon(geometry.finer(lines), nodes_for(side))
    parts = []
    chunk = lines * geometry.bins
    for view in range(geometry.views):
        points, weights = radon.points(slice(view * chunk, (view + 1) * chunk))
        places, shares = corners(points.flatten(0, 1), (side, side))
        values = (shares * weights.reshape(-1, 1) / lines).numpy()
        bins = np.repeat(np.arange(geometry.bins), lines * radon.nodes)[:, None] + np.zeros((1, 4), dtype=np.int64)
        shape = (geometry.bins, side * side)
        part = coo_matrix((values.reshape(-1), (bins.reshape(-1), places.numpy().reshape(-1))), shape)
        parts.append(part.tocsr())
    return csr_matrix(vstack(parts))
