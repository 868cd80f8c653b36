"""The section `tomography`: how signals are scanned, which makes a task of images one of CT."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Tomography(BaseModel):
    """The scans that a gate learns to read, and that evaluations reconstruct from.

    The dictionary itself is trained on the images; a new signal is known by its scan alone.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    views: list[Count] = Field(
        [4, 8, 16, 32, 64, 128], min_length=1, description="numbers of views, each a divisor of the largest"
    )
    evaluated: list[Count] = Field([8, 16], min_length=1, description="those of them that a running training is shown")
    bins: Count | None = Field(None, description="of the detector; null: as many as the image has pixels a side")
    source: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = Field(
        None, description="distance of a fan's source from the axis in radii of the object; null: parallel beams"
    )
    photons: list[Positive | None] = Field(
        [None, 1e4], min_length=1, description="doses, in photons a bin counts per view without object; null: no noise"
    )
    attenuation: Positive = Field(2.0, description="nepers per radius in what has value 1")
    electronic: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="standard deviation of the detector's own noise, in photons"
    )

    @model_validator(mode="after")
    def _check(self) -> "Tomography":
        most = max(self.views)
        uneven = [views for views in self.views if most % views]
        if uneven:
            raise ValueError(f"views {uneven[0]} does not divide the largest, {most}; choose divisors of it")
        strange = [views for views in self.evaluated if views not in self.views]
        if strange:
            raise ValueError(f"evaluated {strange[0]} is not among views; add it there")
        return self
