"""What a task says of a comparison: its subjects, its methods, how a reconstruction is measured, and what is shown.

All the rest, from the loops over subjects and methods to the files, is `nid_dist.comparison.runner`'s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import ArrayLike
from pydantic import Field

from nid_dist.config.schema import Config
from nid_dist.config.section import PathText, Section
from nid_dist.config.shipped import find_config
from nid_dist.evaluation.report import Row, Table
from nid_dist.model import Model

Cells = dict[str, dict[str, tuple[Float32[ndarray, "H W d"], str]]]
"""Pictures in [0, 1] with a caption, by the label of their line and the head of their column."""


class Trained(Section):
    """A dictionary that is trained once and then found again."""

    name: str = Field(description="in the tables; the run is kept in run_dir, in a folder of this name")
    config: str = Field(description="a training configuration: a path relative to the comparison's file, or a name")
    set: list[str] = Field([], description="overrides, section.key=value")


class Comparison(Section):
    """The keys that every comparison has."""

    task: str = Field(description="which comparison this is")
    run_dir: PathText = Field(
        "runs/compare", description="where what is trained is kept and found again; results go below"
    )

    def specify(self, request: "Request") -> "Specification":
        """Say what is compared.

        Raises:
            UserError: when something that all of it needs cannot be read or trained.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Request:
    """What a comparison is asked for, and what it is given."""

    path: Path  # the configuration's file, which other files are named relative to
    inputs: Sequence[Path] | None  # the user's own signals; None: those that the configuration names
    dictionary: Callable[[Trained], tuple[Model, Config]]  # trains one where it has not been, or finds it again
    folder: Callable[[Trained], Path]  # where its run is kept

    def beside(self, name: str) -> Path:
        """A configuration that this one names: a file beside it, or a shipped one."""
        return find_config(name, self.path.parent)


@dataclass(frozen=True)
class Grid:
    """A picture with a line for each of some subjects, and a column for each method."""

    name: str  # of the file, without its ending
    title: str
    shows: str  # what there is to see, for people who choose among files


@dataclass(frozen=True)
class Subject:
    """What is to be reconstructed."""

    name: str
    facts: Row  # what the rows say of it
    load: Callable[[], tuple[Any, Any]]  # what the methods are given, and the truth (None: nobody knows)
    grid: Grid | None = None  # where it is shown
    label: str = ""  # of its line there


@dataclass(frozen=True)
class Reconstruction:
    """What a method has found."""

    render: Callable[[], Any]  # the picture, the surface ...; what this takes is not counted
    costs: Row = field(
        default_factory=dict
    )  # for the row: numbers, multiplications; `seconds` here replaces the clock's


@dataclass(frozen=True)
class ComparedMethod:
    """A name, and a way to reconstruct what a subject gives, with one hyperparameter at most."""

    name: str
    fit: Callable[[Any, float | None], Reconstruction]
    hyperparameters: Sequence[float | None] = (None,)  # one of them is chosen, on subjects apart
    repeats: int = 0  # timed runs, whose median counts, after one that does not; 0: one run, and it counts
    takes: Callable[[Subject], bool] = lambda subject: True  # whether it takes part
    shown: bool = True  # in the picture grids
    family: str = ""  # which of the curves it is on


@dataclass(frozen=True)
class Trial:
    """Subjects that are given to the same methods."""

    subjects: Sequence[Subject]
    methods: Callable[[], Sequence[ComparedMethod]]  # made when their turn has come
    tuned_on: Sequence[Subject] = ()  # for hyperparameters


@dataclass(frozen=True)
class Outcome:
    """A row, and whose it is."""

    subject: Subject
    method: ComparedMethod
    row: dict[str, Any]


@dataclass(frozen=True)
class Curves:
    """A plot of one figure against another."""

    series: Mapping[str, tuple[ArrayLike, ArrayLike]]
    xlabel: str
    ylabel: str
    shows: str


@dataclass(frozen=True)
class Report:
    """What a comparison has found, for people."""

    table: Table
    facts: dict[str, Any] = field(default_factory=dict)  # what else belongs into the JSON
    tables: dict[str, Table] = field(default_factory=dict)  # further ones, by heading
    curves: dict[str, Curves] = field(default_factory=dict)  # by the file's name, without its ending


@dataclass(frozen=True)
class Specification:
    """A comparison, ready to be run."""

    trials: Sequence[Trial]
    measure: Callable[[Any, Any, Any], Row]  # figures, of what was rendered, what was given, and the truth
    first: Callable[[Subject, Any, Any], Cells]  # the columns before the methods', of what was given, and the truth
    show: Callable[
        [Subject, Any, Any, Any, Row], Cells
    ]  # a method's; as above with what was rendered before, the row after
    report: Callable[[Sequence[Outcome]], Report]
    score: Callable[[Any, Any], float] | None = (
        None  # of what was rendered, and the truth; hyperparameters make it large
    )
    failed: Mapping[str, str] = field(default_factory=dict)  # why an input is not among the subjects, by its name


def series_of(rows: Sequence[Row], x: str, y: str, scale: float = 1) -> dict[str, tuple[ArrayLike, ArrayLike]]:
    """One figure against another, with a curve for each method."""
    own = {
        name: [row for row in rows if row["method"] == name] for name in dict.fromkeys(row["method"] for row in rows)
    }
    return {name: ([scale * row[x] for row in part], [row[y] for row in part]) for name, part in own.items()}
