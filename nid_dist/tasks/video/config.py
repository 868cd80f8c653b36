"""The section `signals.video`: which frames of a video are signals, at which size, and what is left out of the fit."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(gt=0)]
Side = Annotated[int, Field(ge=2)]
Missing = Annotated[float, Field(ge=0, lt=1)]


class Video(BaseModel):
    """Frames of a file or a folder."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    start: Annotated[int, Field(ge=0)] = Field(0, description="the first frame, counted from 0")
    stop: Count | None = Field(None, description="the frame after the last one; null: to the end")
    stride: Count = Field(1, description="take every stride-th frame")
    size: tuple[Side, Side] | None = Field(None, description="rows and columns to which frames are resized; null: keep")
    missing_pixels: Missing = Field(0.0, description="share of a frame's pixels, at random, that are not fitted")
    missing_frames: Missing = Field(0.0, description="share of the frames, at random, that are not fitted")

    @model_validator(mode="after")
    def _check(self) -> "Video":
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop {self.stop} leaves no frame after start {self.start}; choose a larger one")
        return self
