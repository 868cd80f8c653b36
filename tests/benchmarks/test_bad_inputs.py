"""Every way in which a reader can fail is seen, and counted under its name."""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nid_dist.benchmarks import bad_inputs
from nid_dist.benchmarks.bad_inputs import clouds, forked
from nid_dist.benchmarks.bad_inputs import settings as configurations
from nid_dist.benchmarks.bad_inputs.damage import ANY, TEXT, damaged
from nid_dist.benchmarks.bad_inputs.forked import Attempt, Outcome, attempt, usual
from nid_dist.benchmarks.bad_inputs.reader import Meaning, Reader, through, what_was_read
from nid_dist.errors import UserError, doubt
from nid_dist.parallel.launch.launching import Launch

GOOD = {"a.txt": b"1 2 3"}
ELSEWHERE = Path(tempfile.gettempdir(), f"nid-escaped-{os.getpid()}")  # beside all that a try may write to


def read(path: Path) -> np.ndarray:
    try:
        return np.array(path.read_bytes().split(), float)
    except ValueError:
        raise UserError(str(path), found="no number", expected="numbers", hint="write some") from None


def reader(act: Callable[[Path], object] = lambda path: None, **more: object) -> Reader:
    """Reads numbers, once something else has happened."""

    def acting(path: Path) -> np.ndarray:
        if b"bad" in path.read_bytes():
            act(path)
        return read(path)

    return Reader("numbers", GOOD, ["a.txt"], through(acting, "a.txt"), what_was_read, **more)  # type: ignore[arg-type]


def tried(tmp_path: Path, content: bytes, act: Callable[[Path], object] = lambda path: None, **more: object) -> Outcome:
    one = reader(act)
    return attempt(Attempt(one, "tried", {"a.txt": content}, **more), usual(one, tmp_path))  # type: ignore[arg-type]


def test_what_is_refused_or_right_is_no_fault(tmp_path: Path) -> None:
    refused = tried(tmp_path / "refused", b"bad", claims=True)
    assert refused.faults == () and refused.code == 2 and refused.said.endswith("write some")
    same = tried(tmp_path / "same", b"1  2\n3", claims=True, truth=GOOD)
    assert same.faults == () and same.code == 0


@pytest.mark.parametrize(
    ("fault", "act"),
    [
        ("tracebacks", lambda path: 1 / 0),
        ("tracebacks", lambda path: os.abort()),
        ("tracebacks", lambda path: sys.exit(2)),
        ("changed", lambda path: path.write_bytes(b"bad 1")),
        ("changed", lambda path: path.unlink()),
        ("escaped", lambda path: (path.parent.parent / "beside").touch()),
        ("escaped", lambda path: Path(tempfile.mkdtemp(), "left").touch()),
        ("escaped", lambda path: ELSEWHERE.touch()),
        ("memory", lambda path: np.ones(2**40)),
    ],
)
def test_faults_are_seen(tmp_path: Path, fault: str, act: Callable[[Path], object]) -> None:
    assert fault in tried(tmp_path, b"bad", act).faults
    ELSEWHERE.unlink(missing_ok=True)


def test_what_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "_STUCK", 1.0)
    assert tried(tmp_path, b"bad", lambda path: time.sleep(60)).faults == ("hangs",)


def test_memory_is_that_of_the_whole_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "MEMORY", 2**20)
    assert tried(tmp_path, b"1").faults == ("memory",)


@pytest.mark.parametrize(
    ("content", "truth", "silent"),
    [(b"4 5 6", GOOD, True), (b"4 5 6", None, True), (b"4", GOOD, True), (b"4 5 6", np.array([4.0, 5, 6]), False)],
)
def test_a_wrong_result_in_silence(tmp_path: Path, content: bytes, truth: object, silent: bool) -> None:
    assert tried(tmp_path, content, claims=True, truth=truth).faults == (("silent",) if silent else ())


def test_what_is_warned_of_is_not_silent_but_numpys_words_are_no_warning(tmp_path: Path) -> None:
    def tell(path: Path, say: Callable[[], object]) -> None:
        say()
        path.write_text("4")  # changed on purpose: what is read afterwards is wrong

    words = {
        "doubt": lambda: doubt("it", found="x", taken_as="y", hint="z"),
        "numpy": lambda: warnings.warn("overflow encountered in cast", RuntimeWarning, stacklevel=2),
    }
    for name, say in words.items():
        faults = tried(tmp_path / name, b"bad", lambda path, say=say: tell(path, say), claims=True, truth=GOOD).faults
        assert ("silent" in faults) == (name == "numpy")


def test_outcomes_are_counted_by_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Meaning("another number", {"a.txt": b"1 2 4"}, GOOD)
    monkeypatch.setattr(bad_inputs, "all_readers", lambda folder: iter([reader(meanings=[wrong]), *clouds.readers()]))
    monkeypatch.setattr(bad_inputs, "_QUICK", 8)
    outcomes = bad_inputs._work(Launch(), str(tmp_path), str(tmp_path / "kept"), True)
    rows = {row["reader"]: row for row in bad_inputs._rows(outcomes)}  # type: ignore[arg-type]
    assert list(rows) == ["numbers", "xyz", "cloud ply", "cloud npy"]
    assert rows["numbers"]["silent"] == 1 and rows["numbers"]["found"][0]["what"] == "another number"
    assert all(row["tried"] >= 2 and not row["hangs"] and not row["escaped"] for row in rows.values())
    assert (tmp_path / "kept" / "numbers").is_dir()


def test_a_configuration_is_tried_on_the_command_itself(tmp_path: Path) -> None:
    one = configurations.configuration()
    usually = usual(one, tmp_path)
    meanings = {each.name: each for each in one.meanings}
    for name in ("steps: 010", "steps: 1:30", "a billion laughs"):
        each = meanings[name]
        assert attempt(Attempt(one, name, each.files, True, each.truth), usually).faults == (), name


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.binary(max_size=300), seed=st.integers(0, 2**32 - 1))
def test_damage_is_the_same_for_a_seed_and_takes_any_bytes(data: bytes, seed: int) -> None:
    for damage in (ANY | TEXT).values():
        once, again = (damage(data, np.random.default_rng(seed)) for _ in range(2))
        assert once == again
    name, changed = damaged(data, np.random.default_rng(seed), [b"other"])
    assert name and isinstance(changed, bytes)
