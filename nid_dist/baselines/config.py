"""How a network per signal is made and fitted: one file of `configs/baselines/` each."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from nid_dist.config.loading import load_as
from nid_dist.config.section import NonNegativeInt, PositiveFloat, PositiveInt, Section


class Meta(Section):
    """A learned initialisation (Tancik et al. 2021), from the training signals of a dictionary."""

    algorithm: Literal["maml", "reptile"] = "maml"
    inner_steps: PositiveInt = Field(2, description="gradient steps on a signal while the initialisation is learned")
    outer_steps: PositiveInt = Field(1000, description="of Adam on the initialisation")
    outer_lr: PositiveFloat = Field(
        1e-4, description="MAML: Adam's rate; Reptile: share of the way to the fitted weights"
    )
    batch: PositiveInt = Field(3, description="signals in an outer step")
    coordinates: PositiveInt | None = Field(None, description="drawn for each inner step; null: all")


class Inr(Section):
    """A coordinate network that is fitted to one signal."""

    kind: Literal["siren", "ffm"] = Field(description="sine layers (Sitzmann 2020), or Fourier features (Tancik 2020)")
    width: PositiveInt = 256
    hidden_layers: PositiveInt = Field(3, description="of width x width, between the first and the last")
    omega: PositiveFloat = Field(30.0, description="siren: frequency factor of all layers but the first")
    first_omega: PositiveFloat = Field(30.0, description="siren: of the first layer")
    features: PositiveInt = Field(256, description="ffm: frequencies, a sine and a cosine of each")
    scale: PositiveFloat = Field(10.0, description="ffm: their standard deviation, in cycles over the box's side")
    output: Literal["linear", "unit", "sigmoid"] = Field(
        "linear", description="f is the last layer's value v; (1 + v) / 2, for images in [0, 1]; or its sigmoid"
    )
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: PositiveFloat = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    batch: PositiveInt | None = Field(None, description="coordinates drawn per step; null: all")
    steps: PositiveInt = Field(2000, description="gradient steps, where the caller asks for no other number")
    seed: NonNegativeInt = 0
    meta: Meta | None = Field(None, description="learn where the weights start; null: at random")

    @model_validator(mode="after")
    def _check(self) -> "Inr":
        if self.meta is not None and self.optimizer != "sgd":
            raise ValueError(
                f"optimizer {self.optimizer!r} with meta, whose inner steps are plain gradient steps; set sgd"
            )
        return self


def load_baseline(path: str | Path) -> Inr:
    """Read the configuration of a baseline, of `configs/baselines/` or by its name, as `baselines/siren`.

    Raises:
        UserError: as `load_config`.
    """
    return load_as(Inr, path)
