"""What sections of a configuration are made of: strict keys, number types, and what each kind of signals answers."""

import os
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Bits = Annotated[int, Field(ge=8, le=16)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Split = list[str] | Fraction
PathText = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path, in which `~` is the user's home."""

# Version 0.1 had one section `signals` for all tasks, and wrote all its keys, these with their defaults, into a run.
_VERSION_0_1: dict[str, Any] = {
    "path": None,
    "colour": "rgb",
    "crop": None,
    "short_side": None,
    "size": None,
    "patch": 16,
    "stride": None,
    "augment": False,
    "val": 0.0,
    "test": 0.0,
    "limit": None,
    "cache_mb": 2048,
    "phantoms": 4096,
    "phantoms_seed": 0,
    "shapes": 256,
    "families": ["chair", "table", "lamp"],
    "shapes_seed": 0,
    "near_surface": 0.8,
    "truncation": 0.1,
    "procedural": 0,
    "stretch": 0.2,
    "turn": 10.0,
    "cloud": 512,
    "lattice": 16,
    "video": {"start": 0, "stop": None, "stride": 1, "size": None, "missing_pixels": 0.0, "missing_frames": 0.0},
}


class Section(BaseModel):
    """A section refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class SignalsSection(Section):
    """The section `signals` of a task, and what follows from it alone, without reading a signal.

    A task has one such class, in `nid_dist/tasks/NAME/config.py`; the key `source` says which is meant.
    """

    task: ClassVar[str]
    """The name of the task, as in `nid_dist/tasks/registry.py`."""
    kind: ClassVar[str]
    """What a signal is, in messages: images, points, frames."""
    gates: ClassVar[tuple[str, ...]]
    """The kinds of gates that can read these signals, or need not."""
    own_coordinates: ClassVar[bool] = False
    """Whether each signal is measured at coordinates of its own, not on the grid."""
    points: ClassVar[int] = 0
    """Of own coordinates: how many are drawn in a step where `training.coordinates` does not say."""

    source: str

    @model_validator(mode="before")
    @classmethod
    def _leave_out_keys_of_other_tasks(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        foreign = [key for key in raw if key in _VERSION_0_1 and key not in cls.model_fields]
        for key in foreign:
            value, default = raw[key], _VERSION_0_1[key]
            if isinstance(value, dict) and isinstance(default, dict):
                value = {**default, **value}
            if value is not None and value != default:
                warnings.warn(
                    f"signals.{key} means nothing for source {raw.get('source')!r} and is left out", stacklevel=2
                )
        return {key: value for key, value in raw.items() if key not in foreign}

    @property
    def channels(self) -> int:
        """d."""
        raise NotImplementedError

    @property
    def grid_shape(self) -> tuple[int, ...] | None:
        """Shape of the grid of dense values, with m axes; None: it depends on the data."""
        raise NotImplementedError

    @property
    def gate_input(self) -> tuple[int, int] | None:
        """Rows and columns of what the gate sees of a signal; None: its values on the grid."""
        return None

    def check(self, gate: str, modes: Sequence[str]) -> None:
        """Refuse a gate (`coding.gate.kind`) or modes of training that these signals do not allow.

        Raises:
            ValueError: in the form "what contradicts; what to change".
        """
        if gate not in self.gates:
            *others, last = self.gates
            raise ValueError(
                f"coding.gate.kind {gate!r} cannot read the {self.kind} of signals.source {self.source!r}; "
                f"choose {', '.join(others)} or {last}"
            )


class FilesSection(SignalsSection):
    """Signals that are, or may be, read from files."""

    path: PathText | None = None
