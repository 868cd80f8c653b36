"""The one way to compare: every method on every subject; one table, pictures and curves, written to a folder."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.comparison.dictionaries import folder_of, trained
from nid_dist.device import resolve_device
from nid_dist.errors import UserError
from nid_dist.evaluation.grids import picture_grid
from nid_dist.evaluation.measuring import timed
from nid_dist.evaluation.pictures import curve
from nid_dist.evaluation.report import write_results
from nid_dist.progress import Phase, phase
from nid_dist.tasks.comparison import (
    Cells,
    ComparedMethod,
    Comparison,
    Grid,
    Outcome,
    Report,
    Request,
    Specification,
    Trial,
)


@dataclass
class Results:
    """What a comparison found, and wrote."""

    report: Report
    rows: list[dict[str, Any]]
    failed: dict[str, str]  # why an input has no result, by its name
    files: dict[str, str] = field(
        default_factory=dict
    )  # what was drawn, and what it shows, the one to look at in front


def run(
    comparison: Comparison, path: Path, out: Path, inputs: Sequence[Path] | None = None, command: str = ""
) -> Results:
    """Make a comparison, and write all that it found. A subject that cannot be read or fitted costs only itself.

    Args:
        path: the file that the comparison was read from, which other files are named relative to.
        out: a folder for the results, where older ones of the same name are replaced; made where it is missing.
        inputs: the user's own signals; None: those that the configuration names.
        command: to be recorded with the figures.

    Raises:
        UserError: when something that all of it needs cannot be read or trained, or results cannot be written.
    """
    train = partial(trained, path=path, run_dir=comparison.run_dir)
    request = Request(path, inputs, train, partial(folder_of, run_dir=comparison.run_dir))
    return run_specification(comparison.specify(request), out, command)


def run_specification(specification: Specification, out: Path, command: str = "") -> Results:
    """As `run`, of what a comparison says."""
    failed, outcomes, grids = dict(specification.failed), list[Outcome](), dict[Grid, Cells]()
    with phase("comparing", sum(len(trial.subjects) for trial in specification.trials), "subjects") as progress:
        for trial in specification.trials:
            outcomes += _outcomes(specification, trial, failed, grids, progress)
    rows = [outcome.row for outcome in outcomes]
    results = Results(specification.report(outcomes), rows, failed)
    if rows:
        _write(results, grids, out, command)
    return results


def run_method(method: ComparedMethod, given: Any, hyperparameter: float | None = None) -> tuple[Any, dict[str, Any]]:
    """What a method makes of what it is given, rendered, and its costs, `seconds` among them."""
    costs, seconds, device = dict[str, Any](), list[float | None](), resolve_device("auto")
    for turn in range(1 + method.repeats):
        found, clock = timed(lambda: method.fit(given, hyperparameter), device)
        costs = {"seconds": clock, **found.costs}
        if turn or not method.repeats:
            seconds.append(costs["seconds"])
    counted = [each for each in seconds if each is not None]
    return found.render(), costs | {"seconds": statistics.median(counted) if counted else None}


def tune(
    method: ComparedMethod, tuned_on: Sequence[tuple[Any, Any]], score: Callable[[Any, Any], float] | None
) -> float | None:
    """The hyperparameter with the highest mean score, of what is rendered and the truth, over some given and truths."""
    if len(method.hyperparameters) == 1 or not tuned_on or score is None:
        return method.hyperparameters[0]

    def mean(hyperparameter: float | None) -> float:
        made = [(run_method(method, given, hyperparameter)[0], truth) for given, truth in tuned_on]
        return float(np.mean([score(rendered, truth) for rendered, truth in made]))

    return max(method.hyperparameters, key=mean)


def _outcomes(
    specification: Specification, trial: Trial, failed: dict[str, str], grids: dict[Grid, Cells], progress: Phase
) -> list[Outcome]:
    methods = trial.methods()
    apart = [subject.load() for subject in trial.tuned_on]
    hyperparameters = [tune(method, apart, specification.score) for method in methods]
    found: list[Outcome] = []
    for subject in trial.subjects:
        try:
            given, truth = subject.load()
            lines = None if subject.grid is None else grids.setdefault(subject.grid, {})
            if lines is not None:
                lines |= specification.first(subject, given, truth)
            for method, hyperparameter in zip(methods, hyperparameters, strict=True):
                if not method.takes(subject):
                    continue
                rendered, costs = run_method(method, given, hyperparameter)
                row = {**subject.facts, "method": method.name}
                row |= {**specification.measure(rendered, given, truth), **costs}
                found.append(Outcome(subject, method, row))
                if lines is not None and method.shown:
                    for label, line in specification.show(subject, rendered, given, truth, row).items():
                        lines.setdefault(label, {}).update(line)
        except UserError as error:
            failed[subject.name] = str(error)
        progress.advance()
    return found


def _write(results: Results, grids: dict[Grid, Cells], out: Path, command: str) -> None:
    for grid, lines in grids.items():
        picture_grid(out / f"{grid.name}.png", lines, title=grid.title)
        results.files[f"{grid.name}.png"] = grid.shows
    report = results.report
    for name, plot in report.curves.items():
        curve(out / f"{name}.png", plot.series, plot.xlabel, plot.ylabel, logarithmic=True)
        results.files[f"{name}.png"] = plot.shows
    facts = {**report.facts, "rows": results.rows}
    write_results(out / "results.json", command, facts, report.table, tables=report.tables, failed=results.failed)
