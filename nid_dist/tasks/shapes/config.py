"""The section `signals` of shapes: signed distances, of prepared meshes or of procedural furniture."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nid_dist.config.section import (
    FilesSection,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PathText,
    PositiveFloat,
    PositiveInt,
    Share,
    Split,
)


class ShapesSection(FilesSection):
    """Shapes, each measured at points of its own."""

    task: ClassVar[str] = "shapes"
    kind: ClassVar[str] = "points"
    gates: ClassVar[tuple[str, ...]] = ("codebook", "pointnet", "none")
    own_coordinates: ClassVar[bool] = True
    points: ClassVar[int] = 2048

    source: Literal["shapes"] = Field(description="signed distances of shapes")
    path: PathText | None = Field(None, description="folder of prepared shapes; null: procedural ones")
    augment: bool = Field(False, description="draw shapes mirrored, turned and stretched")
    val: Split = Field(0.0, description="names (globs), or the share of shapes, kept for validation")
    test: Split = Field(0.0, description="names (globs), or the share of shapes, kept for test")
    limit: PositiveInt | None = Field(None, description="use at most this many shapes of each split")
    shapes: PositiveInt = Field(256, description="how many are made, all splits together")
    families: list[Literal["chair", "table", "lamp"]] = Field(
        ["chair", "table", "lamp"], min_length=1, description="of which kinds, in turn"
    )
    shapes_seed: NonNegativeInt = Field(0, description="of the shapes, which do not follow training.seed")
    near_surface: Share = Field(0.8, description="of a shape's points, those near its surface")
    truncation: PositiveFloat = Field(
        0.1, description="f is the distance, cut at ± this (the box is [-1, 1]^3) and divided by it"
    )
    procedural: NonNegativeInt = Field(0, description="with a path: procedural shapes to train on besides")
    stretch: Fraction = Field(0.2, description="augment: largest change of the length of each axis, as a share")
    turn: NonNegativeFloat = Field(10.0, description="augment: largest turn about the up axis, in degrees")
    cloud: PositiveInt = Field(512, description="points of the surface that a pointnet gate is shown")
    lattice: PositiveInt = Field(16, description="side of the grid of dense values for initial experts")

    @model_validator(mode="after")
    def _check_augment(self) -> "ShapesSection":
        if self.augment and self.path is None:
            raise ValueError("augment needs prepared shapes (signals.path); set signals.augment to false")
        return self

    @property
    def channels(self) -> int:
        """d = 1, a distance."""
        return 1

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Of the cube."""
        return (self.lattice,) * 3

    @property
    def gate_input(self) -> tuple[int, int]:
        """Points of a surface, each with its place and its normal."""
        return self.cloud, 6

    def check(self, gate: str, modes: Sequence[str]) -> None:
        """Refuse gates that read grids, and a codebook of shapes that change."""
        super().check(gate, modes)
        if self.augment and gate == "codebook":
            raise ValueError("signals.augment changes shapes, and a codebook's code for each shape does not follow")
