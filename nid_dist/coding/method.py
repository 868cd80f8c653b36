"""How codes are found, by name."""

import re
from dataclasses import dataclass
from typing import Any

from nid_dist.coding.solvers.irls import RobustLoss
from nid_dist.errors import UserError

METHODS = ("init", "adam", "ridge", "omp", "fista", "irls", "map", "detail")
_GATED = ("init", "adam", "ridge")
_STEPS = 10  # of adam, where a name says none


@dataclass(frozen=True)
class Method:
    """One way to fit.

    Raises:
        UserError: for another name.
    """

    # `init` (the gate's code), `adam` (steps from it), `ridge` (on the gate's support), `omp`, `fista` (L1), `irls`
    # (robust), `map` (with the prior that the training learned), `detail` (of scans: that and detail experts)
    name: str
    steps: int = 0  # of Adam; for `omp`, `irls` and `map` the rounds of selection, 0 for one atom a round
    ridge: float = 1e-5  # relative ridge
    penalty: float = 0.01  # of `fista`, relative to the least that leaves nothing
    loss: RobustLoss = "l1"  # of `irls`
    tolerance: float = 0.0  # of `omp`: a signal of no larger mean squared error gets no further coefficients
    noise: float = 0.01  # of `map`, the standard deviation of the measurements' noise in the signal's units
    variation: float | None = None  # of `detail`, the weight of total variation; None: the usual one

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise UserError(
                "the method", found=repr(self.name), expected=f"one of {', '.join(METHODS)}", hint="choose one of these"
            )

    @staticmethod
    def of(method: "str | Method", **defaults: Any) -> "Method":
        """A method by its label.

        Args:
            method: a name, with steps or rounds where there are any: omp, omp8, adam (ten steps), adam5. A method
                stays as it is.
            defaults: of what a label does not say.

        Raises:
            UserError: for another name.
        """
        if isinstance(method, Method):
            return method
        name, steps = re.fullmatch(r"(.*?)(\d*)", method, re.DOTALL).groups()  # type: ignore[union-attr]
        return Method(name, int(steps or (_STEPS if name == "adam" else 0)), **defaults)

    @property
    def label(self) -> str:
        """The name in tables: init, adam10, ridge, omp (one atom a round), omp8 (eight rounds)."""
        return f"{self.name}{self.steps}" if self.steps else self.name

    @property
    def needs_gate(self) -> bool:
        """Whether the gate proposes the support."""
        return self.name in _GATED
