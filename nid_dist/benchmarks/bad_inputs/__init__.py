"""`bad-inputs`: files that are damaged, or mean something else, given to every reader; nothing may go wrong in silence.

Each try is a process of its own, and counts as a fault when it ends in a traceback (or in any other way than by exit
code 0, or 2 with a line that says why), takes longer than 20 s, changes an input, writes outside its output folder
(what it leaves in the temporary folder included), needs more than 2 GiB, or ends well and without a warning where the
result is wrong: of inputs whose meaning is broken on purpose the truth is known, and damage of what we wrote ourselves
must never be taken for what was written.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.benchmarks.bad_inputs.damage import damaged
from nid_dist.benchmarks.bad_inputs.dictionaries import TASKS, train_tiny, write_products
from nid_dist.benchmarks.bad_inputs.forked import FAULTS, Attempt, Usual, attempt, usual
from nid_dist.benchmarks.bad_inputs.kinds import all_readers
from nid_dist.benchmarks.bad_inputs.reader import Reader, contents
from nid_dist.evaluation.report import Column, Table
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.local_processes import run_local
from nid_dist.parallel.world import JSON
from nid_dist.progress import INTERVAL

_TRIED = 5200  # damage that is tried, of all readers together, besides broken meanings
_QUICK = 40
_PROCESSES = 2
_COLUMNS = [
    Column("reader", key="reader"),
    Column("tried", key="tried"),
    Column("broken meanings", key="meanings"),
    Column("refused", key="refused"),
    *(Column(name, key=name) for name in FAULTS),
    Column("slowest", "s", ".2f", "slowest"),
]


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Try them all; `quick`: some damage, and a few of the broken meanings.

    The figures: `tried`, a number for each kind of fault, `found` (what had a fault, and what was said of it last), and
    `rows`, the same for each reader. Inputs that had a fault are kept in a temporary folder, whose name is said.
    """
    kept = Path(tempfile.mkdtemp(prefix="nid-bad-inputs-"))
    with tempfile.TemporaryDirectory() as folder:
        run_local(_train, _PROCESSES, folder)
        write_products(Path(folder))
        before = contents(Path(folder))
        answers: list[Any] = run_local(_work, _PROCESSES, folder, str(kept), quick)
        changed = contents(Path(folder)) != before
    rows = _rows([each for answer in answers for each in answer])
    total = {name: sum(row[name] for row in rows) for name in ("tried", "meanings", "refused", *FAULTS)}
    total["changed"] += changed  # a dictionary, which all commands had as an input, too
    found = [each for row in rows for each in row.pop("found")]
    if found:
        print(f"inputs that had a fault are in {kept}", file=sys.stderr)
    else:
        shutil.rmtree(kept)
    figures = {**total, "seconds": max(sum(each["seconds"] for each in answer) for answer in answers), "found": found}
    return {**figures, "rows": rows}, Table.of(_COLUMNS, [*rows, {"reader": "all", **total}])


def _train(launch: Launch, folder: str) -> JSON:
    """Tiny dictionaries of some tasks."""
    for task in list(TASKS)[launch.rank :: launch.size]:
        train_tiny(task, Path(folder))
    return None


def _work(launch: Launch, folder: str, kept: str, quick: bool) -> JSON:
    """Every second attempt, one after the other, each in a process forked from this one."""
    readers = list(all_readers(Path(folder)))
    usually: dict[str, Usual] = {}
    for place, reader in enumerate(readers):
        with tempfile.TemporaryDirectory() as good:
            usually[reader.name] = usual(reader, Path(good, str(place)))
    outcomes: list[JSON] = []
    own = [each for place, each in enumerate(attempts(readers, quick)) if place % launch.size == launch.rank]
    said = time.monotonic()
    for number, each in enumerate(own):
        begin = time.monotonic()
        # Not by `track`, whose thread may hold a lock while a process is forked.
        if launch.rank == 0 and begin - said > INTERVAL:
            said = begin
            print(f"bad inputs: {number * launch.size} of {len(own) * launch.size}", file=sys.stderr, flush=True)
        outcome = attempt(each, usually[each.reader.name], Path(kept, each.reader.name, f"{launch.rank}-{number}"))
        told = {"reader": each.reader.name, "what": each.name, "meaning": each.is_meaning}
        outcomes.append({**told, **asdict(outcome), "seconds": time.monotonic() - begin})
    return outcomes


def attempts(readers: list[Reader], quick: bool) -> Iterator[Attempt]:
    """What is tried, the same every time."""
    others = [content for reader in readers for content in reader.good.values()]
    shares = sum(reader.share for reader in readers)
    for place, reader in enumerate(readers):
        for meaning in reader.meanings[:: 6 if quick else 1]:
            yield Attempt(reader, meaning.name, meaning.files, True, meaning.truth, meaning.tolerance, is_meaning=True)
        for number in range(round((_QUICK if quick else _TRIED) * reader.share / shares)):
            generator = np.random.default_rng([place, number])
            file = reader.damaged[int(generator.integers(len(reader.damaged)))]
            what, content = damaged(reader.good[file], generator, others)
            files = {**reader.good, file: content}
            yield Attempt(reader, f"{file}, {what} ({number})", files, reader.exact, reader.good)


def _rows(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for name in dict.fromkeys(each["reader"] for each in outcomes):
        own = [each for each in outcomes if each["reader"] == name]
        row = {
            "reader": name,
            "tried": len(own),
            "meanings": sum(each["meaning"] for each in own),
            "refused": sum(each["code"] == 2 for each in own),
            **{fault: sum(fault in each["faults"] for each in own) for fault in FAULTS},
            "slowest": max(each["seconds"] for each in own),
            "found": [
                {key: each[key] for key in ("reader", "what", "faults", "said")} for each in own if each["faults"]
            ],
        }
        rows.append(row)
    return rows
