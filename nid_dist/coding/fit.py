"""What a method found for a signal: a code that can be rendered, measured and saved."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nid_dist.code import Code
from nid_dist.coding.judgement import Judgement
from nid_dist.coding.method import Method
from nid_dist.coding.solvers.solution import Solution
from nid_dist.files import expanded, new_folder


@dataclass(frozen=True, eq=False)
class Fit(ABC):
    """A signal as a method represents it; each task has a form of its own."""

    method: Method  # how it was fitted
    solution: Solution  # the code, its residual, and the seconds it took

    @property
    def code(self) -> Code:
        """The code of the signal, or of the patches or frames that it is made of, in order."""
        return self.solution.code

    @property
    def residual(self) -> float:
        """Mean squared error over what was measured."""
        return float(self.solution.residual.mean())

    @property
    def seconds(self) -> float:
        """That the fit took."""
        return self.solution.seconds

    @property
    def judgement(self) -> Judgement:
        """How well it explains what was measured, and whether to trust it."""
        return Judgement(max(self.residual, 0.0) ** 0.5)

    @property
    def psnr(self) -> float | None:
        """Peak signal-to-noise ratio against what was fitted, in dB; None for what is no picture."""
        return None

    @abstractmethod
    def render(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate f at any resolution: a picture, a slice, a mesh, a frame."""

    def save(self, folder: str | Path, **options: Any) -> Path:
        """Write codes, what f looks like, and figures to a new or empty folder, which appears complete or not at all.

        Raises:
            UserError: when there is something in the folder, or it cannot be written.
        """
        with new_folder(folder) as temporary:
            self.write(temporary, **options)
        return expanded(folder)

    @abstractmethod
    def write(self, folder: str | Path, **options: Any) -> dict[str, Any]:
        """Write all that belongs to it into a folder that exists; the figures of its JSON file."""
