"""What all comparisons share: their configuration's first keys, what they are asked for, and what they hand back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from nid_dist.config.section import Section
from nid_dist.config.shipped import find_config
from nid_dist.evaluation.report import Table


class Trained(Section):
    """A dictionary that is trained once and then found again."""

    name: str = Field(description="in the tables; the run is kept in run_dir, in a folder of this name")
    config: str = Field(description="a training configuration: a path relative to the comparison's file, or a name")
    set: list[str] = Field([], description="overrides, section.key=value")


class Comparison(Section):
    """The keys that every comparison has."""

    task: str = Field(description="which comparison this is")
    run_dir: str = Field("runs/compare", description="where what is trained is kept and found again; results go below")


@dataclass(frozen=True)
class Request:
    """What a comparison is asked for.

    Args:
        path: the configuration's file, which other files are named relative to.
        inputs: the user's own signals; None: those that the configuration names.
        out: an existing folder for pictures, where older ones of the same name are replaced.
    """

    path: Path
    inputs: Sequence[Path] | None
    out: Path

    def beside(self, name: str) -> Path:
        """A configuration that this one names: a file beside it, or a shipped one."""
        return find_config(name, self.path.parent)


@dataclass(frozen=True)
class Results:
    """What a comparison found.

    Args:
        table: for people.
        rows: the same figures and more, for programs.
        facts: what else belongs into the JSON.
        files: what was drawn into `Request.out`, and what it shows, the one to look at first in front.
        tables: further tables, by heading.
        failed: why an input has no result, by its name.
    """

    table: Table
    rows: list[dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
