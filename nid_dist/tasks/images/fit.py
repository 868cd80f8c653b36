"""Fits of images of any size: in patches, or whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from skimage.transform import resize
from torch import Tensor

from nid_dist.code import save_codes, stored_bytes
from nid_dist.coding.fit import Fit
from nid_dist.coding.judgement import Judgement, from_db
from nid_dist.coding.method import Method
from nid_dist.coding.solvers import LastPrepared
from nid_dist.data.raster import MAX_PIXELS
from nid_dist.device import to_device
from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.evaluation.pictures import save_image
from nid_dist.files import expanded, write_json
from nid_dist.fitting import fit_signals
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.detail import add_detail, require_detail
from nid_dist.tasks.images.tiling import Tiling

ImageArray = Float32[np.ndarray, "H W d"]


@dataclass(frozen=True, eq=False)
class ImageFit(Fit):
    """An image as a method represents it; its codes are those of its signals, which are patches or the whole image."""

    model: Model
    image: ImageArray  # the input, in [0, 1]
    tiling: Tiling  # where the signals lie in the image

    @cached_property
    def psnr(self) -> float:
        """Of `render()` against the input, in dB."""
        return psnr(self.render(), self.image)

    @property
    def judgement(self) -> Judgement:
        """Against the residual that validation images had, and by how far its patches lie from those trained on."""
        figures, label = self.model.validation, self.method.label
        similar = [name for name in figures if "/db_omp" in name]
        expected = from_db(figures, [f"val/db_{label}", f"train/db_{label}", *similar])
        distance = self.model.relative_distance(self.code)
        return Judgement(10 ** (-self.psnr / 20), expected, distance=distance)

    @torch.no_grad()
    def render(self, height: int | None = None, width: int | None = None, *, scale: float | None = None) -> ImageArray:
        """Evaluate f at any resolution: the image, clipped to [0, 1].

        A height or width that is None is the image's own; `scale` is a multiple of its resolution instead.

        Raises:
            UserError: for more pixels than an image may have.
        """
        if scale is not None:
            height, width = (max(1, round(side * scale)) for side in (self.tiling.height, self.tiling.width))
        height, width = height or self.tiling.height, width or self.tiling.width
        require_size(height, width)
        query = self.tiling.query(height, width)
        values = self.model.evaluate(self.code, query.coords)
        # Channel by channel: blending copies what it blends a few times.
        picture, detail = values.new_empty(height, width, self.model.channels), self.detail_at(height, width)
        for channel in range(self.model.channels):
            plane = query.assemble(values[..., channel, None])[..., 0]
            picture[..., channel] = (plane if detail is None else plane + detail[..., channel]).clamp(0, 1)
        return picture.cpu().numpy()

    def detail_at(self, height: int, width: int) -> Float[Tensor, "H W d"] | None:
        """What is added to the blended signals at a resolution; None: nothing."""
        return None

    def closeness(self, picture: ImageArray) -> dict[str, float | None]:
        """How close a picture as rendered is to what was given: PSNR in dB, and SSIM."""
        return {"psnr_db": psnr(picture, self.image), "ssim": ssim(picture, self.image)}

    def figures(self, picture: ImageArray) -> dict[str, Any]:
        """Quality, length and time of the codes, of a picture as rendered: numbers for a table or a file."""
        return {
            **self.closeness(picture),
            "nonzeros_per_signal": int((self.code.values != 0).sum(1).max()),
            "detail_numbers": 0 if self.code.detail is None else self.code.detail.numbers,
            "bytes_per_signal": stored_bytes(self.code, self.model.dictionary.num_experts),
            "bytes_per_image": self.code.signals * stored_bytes(self.code, self.model.dictionary.num_experts),
            "ms_per_signal": 1e3 * self.seconds / self.code.signals,
            "ms_per_image": 1e3 * self.seconds,
            "images_per_second": 1 / self.seconds if self.seconds else None,
        }

    def write(self, folder: str | Path, **facts: Any) -> dict[str, Any]:
        """Write `codes.safetensors`, the picture as PNG and `results.json`."""
        folder, picture, label = expanded(folder), self.render(), self.method.label
        figures = {**facts, "solver": label, **self.figures(picture)}
        write_codes(folder, {label: self}, **facts)
        save_image(folder / f"{label}.png", picture)
        write_json(folder / "results.json", figures)
        return figures


def write_codes(folder: Path, fits: Mapping[str, ImageFit], **facts: Any) -> None:
    """Write `codes.safetensors`: codes of an image by method, with what it takes to make the image of them.

    `facts` are kept with them, such as the image's name.
    """
    one = next(iter(fits.values()))
    facts |= {name: getattr(one.tiling, name) for name in ("height", "width", "patch", "stride")}
    codes = {label: fit.code for label, fit in fits.items()}
    save_codes(folder / "codes.safetensors", codes, one.model.dictionary.num_experts, facts)


def fit_image(
    model: Model,
    image: ImageArray,
    methods: Sequence[Method],
    stride: int | None = None,
    prepared: LastPrepared | None = None,
    *,
    whole: bool = False,
    detail: int | None = None,
) -> dict[str, ImageFit]:
    """Represent an image of any size by each method: fits by the methods' labels, to be rendered.

    Args:
        model: trained on patches, or on whole images.
        image: in [0, 1].
        stride: step between patches; None: no overlap. Overlapping patches are blended.
        prepared: of the model's dictionary, where many images are to come.
        whole: one signal for the image, whatever the patches are that the dictionary was trained on.
        detail: splines of compact support beside the learned experts that the method has chosen, so many at most; of
            whole images.

    Raises:
        UserError: when the image has other channels than the dictionary, the stride does not fit its patches, detail is
            asked of patches, or a method needs a gate or a prior that is not there.
    """
    require_images(model)
    require_channels(model, image)
    patch = None if whole else model.config.signals_of(ImagesSection).patch
    require_stride(stride, patch)
    height, width = image.shape[:2]
    if detail is not None:
        require_detail(detail, patch)
    tiling = Tiling(height, width, patch, stride or patch)
    # Cut where they are fitted: overlapping patches are a few times the image.
    values, coords = tiling.split(to_device(torch.tensor(image), model.device)), tiling.coords.to(model.device)
    gate_input = None
    if patch is None and (height, width) != model.grid_shape:
        # A whole image of another size than the gate's grid: solvers use all its pixels, the gate a resized copy.
        resized = resize(image, model.grid_shape, order=1, mode="edge", anti_aliasing=True, preserve_range=True)
        gate_input = torch.from_numpy(resized.astype(np.float32)).reshape(1, -1, image.shape[2]).to(model.device)
    known = None if prepared is None else prepared.at(coords)
    solutions = fit_signals(model, Sampling(coords), values, methods, gate_input, prepared=known)
    model = model.unsharded()
    if detail is not None:
        picture = values[0].view(image.shape)
        solutions = {label: add_detail(model, each, picture, detail) for label, each in solutions.items()}
    return {method.label: ImageFit(method, solutions[method.label], model, image, tiling) for method in methods}


def require_size(height: int, width: int) -> None:
    """Refuse to render more pixels than an image may have.

    Raises:
        UserError: when there are.
    """
    if height * width > MAX_PIXELS:
        raise UserError(
            "the size to render",
            found=f"{height}x{width} pixels",
            expected=f"at most {MAX_PIXELS} pixels",
            hint="choose a smaller one",
        )


def require_images(model: Model, name: str = "the dictionary") -> None:
    """Refuse a dictionary, called `name`, of other signals than images.

    Raises:
        UserError: when it is one of shapes or of a video.
    """
    model.config.signals_of(ImagesSection, name)


def require_patches(model: Model) -> int:
    """The side of a dictionary's patches, in pixels.

    Raises:
        UserError: when its signals are whole images.
    """
    patch = model.config.signals_of(ImagesSection).patch
    if patch is None:
        raise UserError(
            "the dictionary",
            found="one of whole images (signals.patch: null)",
            expected="one of patches, which images of any size are made of",
            hint="train with signals.patch, for example configs/images.yaml",
        )
    return patch


def require_channels(model: Model, image: ImageArray) -> None:
    """Refuse a grey image for a dictionary of colour, and the other way round, and samples that are not in [0, 1].

    Raises:
        UserError: when it has other channels, or its samples are whole numbers.
    """
    if image.dtype.kind != "f":
        raise UserError(
            "the image",
            found=f"samples of type {image.dtype}",
            expected="float32 in [0, 1]",
            hint="convert it (nid_dist.data.depth.unit_values does, and so does model.fit)",
        )
    if image.shape[2] != model.channels:
        colour = model.config.signals_of(ImagesSection).colour
        raise UserError(
            "the image",
            found=f"{image.shape[2]} channel(s)",
            expected=f"{model.channels}, as the dictionary's signals.colour is {colour}",
            hint=f"convert it (nid_dist.data.reading.to_colour(image, {colour!r}) does)",
        )


def require_stride(stride: int | None, patch: int | None) -> None:
    """Refuse a step between patches that leaves pixels out, or that is asked for where there are no patches.

    Raises:
        UserError: saying which there may be.
    """
    if stride is not None and (patch is None or not 1 <= stride <= patch):
        raise UserError(
            "stride",
            found=str(stride),
            expected=f"1 to {patch}" if patch else "none, as a signal of this dictionary is a whole image",
            hint="choose such a number" if patch else "leave it out",
        )
