"""The section `signals` of sounds: which they are, how they are sampled, and the windows they are cut into."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from nid_dist.config.section import FilesSection, NonNegativeInt, PathText, PositiveFloat, PositiveInt, Split


class AudioSection(FilesSection):
    """Sounds, in windows of samples."""

    task: ClassVar[str] = "audio"
    kind: ClassVar[str] = "windows"
    gates: ClassVar[tuple[str, ...]] = ("pursuit", "unrolled", "codebook", "none")

    source: Literal["audio"] = Field(description="sounds: your own, or made ones")
    path: PathText | None = Field(
        None, description="root folder of sound files; null: plucked strings, chirps and vowels"
    )
    rate: PositiveInt | None = Field(None, description="samples per second, to which all are resampled; null: as is")
    layout: Literal["mono", "stereo"] = Field("mono", description="channels are mixed, or two are kept")
    window: Annotated[int, Field(ge=8)] = Field(256, description="samples of a signal, a power of two")
    stride: PositiveInt | None = Field(None, description="training step between windows; null: no overlap")
    val: Split = Field(0.0, description="names (globs), or the share of sounds, kept for validation")
    test: Split = Field(0.0, description="names (globs), or the share of sounds, kept for test")
    limit: PositiveInt | None = Field(None, description="use at most this many sounds of each split")
    cache_mb: PositiveInt = Field(1024, description="decoded sounds kept in memory")
    sounds: PositiveInt = Field(96, description="without a path: how many are made, all splits together")
    seconds: PositiveFloat = Field(1.0, description="without a path: how long each of them is")
    sounds_seed: NonNegativeInt = Field(0, description="without a path: of them, which do not follow training.seed")

    @model_validator(mode="after")
    def _check_windows(self) -> "AudioSection":
        if self.window & (self.window - 1):
            raise ValueError(f"signals.window {self.window} is no power of two; choose {1 << self.window.bit_length()}")
        if self.stride is not None and self.stride > self.window:
            raise ValueError(f"stride {self.stride} larger than window {self.window} leaves samples out")
        return self

    @property
    def channels(self) -> int:
        """d."""
        return 2 if self.layout == "stereo" else 1

    @property
    def grid_shape(self) -> tuple[int]:
        """A window."""
        return (self.window,)
