"""The section `signals` of images: which they are, how they are cut, and which are kept for validation and test."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nid_dist.config.section import Bits, FilesSection, PathText, PositiveInt, SignalsSection, Split


class ImagesSection(SignalsSection):
    """Images of any source, whole or in patches."""

    task: ClassVar[str] = "images"
    kind: ClassVar[str] = "images"
    gates: ClassVar[tuple[str, ...]] = ("light", "conv", "resnet", "codebook", "pursuit", "unrolled", "none")

    colour: Literal["rgb", "grey"] = "rgb"
    bits: Bits | None = Field(None, description="that 16-bit samples use, such as 12 of a sensor; null: all 16")
    crop: PositiveInt | None = Field(None, description="side of a centre crop taken first (CelebA: 178)")
    short_side: PositiveInt | None = Field(None, description="resize so that the shorter side has this many pixels")
    size: PositiveInt | None = Field(None, description="side of a square to which the (centre) square is resized")
    patch: PositiveInt | None = Field(16, description="side of a patch; null: a signal is a whole image")
    stride: PositiveInt | None = Field(None, description="training step between patches; null: no overlap")
    augment: bool = Field(False, description="draw one of the square's 8 symmetries")
    val: Split = Field(0.0, description="names (globs), or the share of images, kept for validation")
    test: Split = Field(0.0, description="names (globs), or the share of images, kept for test")
    limit: PositiveInt | None = Field(None, description="use at most this many images of each split")
    cache_mb: PositiveInt = Field(2048, description="decoded images kept in memory")

    @model_validator(mode="after")
    def _check_grid(self) -> "ImagesSection":
        if self.patch is None and self.size is None:
            raise ValueError("whole images (patch: null) need signals.size, so that all share one grid")
        if self.patch is not None and self.stride is not None and self.stride > self.patch:
            raise ValueError(f"stride {self.stride} larger than patch {self.patch} leaves pixels out")
        return self

    @property
    def channels(self) -> int:
        """d: 3 of rgb, 1 of grey."""
        return 3 if self.colour == "rgb" else 1

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(H, W) of a patch, or of a whole image."""
        side = self.patch or self.size
        assert side is not None  # checked above
        return side, side


class PhotosSection(ImagesSection, FilesSection):
    """Photographs of scikit-image, your own images, or CelebA."""

    source: Literal["embedded", "folder", "celeba"] = Field(
        "embedded", description="photographs of scikit-image, your own images, or CelebA"
    )
    path: PathText | None = Field(None, description="root folder of `folder` and `celeba`")

    @model_validator(mode="after")
    def _check_path(self) -> "PhotosSection":
        if self.source != "embedded" and self.path is None:
            raise ValueError(f"source {self.source!r} needs signals.path, the folder with the images")
        return self
