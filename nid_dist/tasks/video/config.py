"""The section `signals` of a video: which of its frames are signals, at which size, and what is left out of the fit."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from nid_dist.config.section import Bits, FilesSection, Fraction, NonNegativeInt, PathText, PositiveInt, Section

Side = Annotated[int, Field(ge=2)]


class Video(Section):
    """Frames of a file or a folder."""

    start: NonNegativeInt = Field(0, description="the first frame, counted from 0")
    stop: PositiveInt | None = Field(None, description="the frame after the last one; null: to the end")
    stride: PositiveInt = Field(1, description="take every stride-th frame")
    size: tuple[Side, Side] | None = Field(None, description="rows and columns to which frames are resized; null: keep")
    missing_pixels: Fraction = Field(0.0, description="share of a frame's pixels, at random, that are not fitted")
    missing_frames: Fraction = Field(0.0, description="share of the frames, at random, that are not fitted")
    light: bool = Field(True, description="each frame has a gain and an offset of its own, which f does not learn")
    cuts: bool = Field(True, description="after a cut there is another background")

    @model_validator(mode="after")
    def _check(self) -> "Video":
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop {self.stop} leaves no frame after start {self.start}; choose a larger one")
        return self


class VideoSection(FilesSection):
    """A video, whose frames are signals."""

    task: ClassVar[str] = "video"
    kind: ClassVar[str] = "frames"
    gates: ClassVar[tuple[str, ...]] = (
        "light",
        "conv",
        "resnet",
        "codebook",
        "pursuit",
        "unrolled",
        "temporal",
        "none",
    )

    source: Literal["video"] = Field(description="a video")
    path: PathText | None = Field(None, description="a file, or a folder of its frames")
    colour: Literal["rgb", "grey"] = "rgb"
    bits: Bits | None = Field(None, description="that 16-bit samples of frames use, such as 12; null: all 16")
    crop: PositiveInt | None = Field(None, description="side of a centre crop taken first")
    short_side: PositiveInt | None = Field(
        None, description="make frames smaller, so that the shorter side has this many pixels at most"
    )
    video: Video = Field(Video(), description="which frames, and at which size")

    @model_validator(mode="before")
    @classmethod
    def _refuse_keys_of_images(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and (raw.get("augment") or raw.get("size") is not None):
            raise ValueError("frames of a video are neither turned (augment) nor cut square (size); unset these")
        return raw

    @model_validator(mode="after")
    def _check_path(self) -> "VideoSection":
        if self.path is None:
            raise ValueError("source 'video' needs signals.path, a video file or a folder with its frames")
        return self

    @property
    def channels(self) -> int:
        """d: 3 of rgb, 1 of grey."""
        return 3 if self.colour == "rgb" else 1

    @property
    def grid_shape(self) -> tuple[int, int] | None:
        """(H, W) of a frame, where the configuration says it."""
        return self.video.size

    def check(self, gate: str, modes: Sequence[str]) -> None:
        """Refuse a gate that looks at whole frames, or codes that are solved, where pixels are missing."""
        super().check(gate, modes)
        if self.video.missing_pixels and any(mode != "gate" for mode in modes):
            raise ValueError("signals.video.missing_pixels needs mode 'gate'; set coding.phases to [{mode: gate}]")
        if self.video.missing_pixels and gate not in ("codebook", "temporal"):
            raise ValueError(
                f"coding.gate.kind {gate!r} looks at whole frames, not at frames with signals.video.missing_pixels; "
                "choose codebook or temporal"
            )
