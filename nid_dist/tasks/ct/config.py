"""CT: the section `signals` of phantoms, and the section `tomography`, which makes a task of images one of CT."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from nid_dist.config.section import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Section
from nid_dist.tasks.images.config import ImagesSection


class PhantomsSection(ImagesSection):
    """Phantoms of a head; images like others, as long as nothing scans them."""

    source: Literal["phantoms"] = Field(description="phantoms of a head, made from a seed")
    phantoms: PositiveInt = Field(4096, description="how many are made, all splits together")
    phantoms_seed: NonNegativeInt = Field(0, description="of them, which do not follow training.seed")
    slices: PositiveInt | None = Field(
        None, description="of a volume of ellipsoids, which so many phantoms, one after the other, are; null: of a head"
    )

    @model_validator(mode="after")
    def _check_size(self) -> "PhantomsSection":
        if self.size is None:
            raise ValueError("source 'phantoms' needs signals.size, the side of the images that are made")
        return self


class Tomography(Section):
    """The scans that a gate learns to read, and that evaluations reconstruct from.

    The dictionary itself is trained on the images; a new signal is known by its scan alone.
    """

    task: ClassVar[str] = "ct"

    views: list[PositiveInt] = Field(
        [4, 8, 16, 32, 64, 128], min_length=1, description="numbers of views, each a divisor of the largest"
    )
    evaluated: list[PositiveInt] = Field(
        [8, 16], min_length=1, description="those of them that a running training is shown"
    )
    bins: PositiveInt | None = Field(None, description="of the detector; null: as many as the image has pixels a side")
    source: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = Field(
        None, description="distance of a fan's source from the axis in radii of the object; null: parallel beams"
    )
    photons: list[PositiveFloat | None] = Field(
        [None, 1e4], min_length=1, description="doses, in photons a bin counts per view without object; null: no noise"
    )
    attenuation: PositiveFloat = Field(2.0, description="nepers per radius in what has value 1")
    finer: Literal[1, 2] = Field(
        1,
        description="initial values and prior are learned on a grid of so many times more points a side, each a mean "
        "over a pixel: lines between pixels are then known, too, by splines (dictionary.encoding) of as many",
    )
    electronic: NonNegativeFloat = Field(0.0, description="standard deviation of the detector's own noise, in photons")

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

    def check(self, signals: Section, gate: str) -> None:
        """Refuse signals that cannot be scanned, and a gate (`coding.gate.kind`) that cannot read scans.

        Raises:
            ValueError: in the form "what contradicts; what to change".
        """
        if (
            not isinstance(signals, ImagesSection)
            or signals.patch is not None
            or signals.size is None
            or signals.colour != "grey"
        ):
            raise ValueError(
                "tomography scans whole grey images; set signals.patch to null, signals.colour to grey, and a size"
            )
        if signals.augment:
            raise ValueError("tomography does not scan turned images; set signals.augment to false")
        if gate == "codebook":
            raise ValueError("coding.gate.kind 'codebook' cannot read scans; choose light")
