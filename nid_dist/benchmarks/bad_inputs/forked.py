"""One attempt in a forked process: it may crash, hang, fill the memory or write anywhere, and it is seen."""

import faulthandler
import hashlib
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.benchmarks.bad_inputs.reader import Files, Reader, write

HANG = 20.0  # seconds of computing
_STUCK = 60.0  # seconds by the clock, on a machine that others may use
MEMORY = 2**31  # bytes of the process, all that it had imported included
_ROOM = 3 * 2**30  # bytes that it may ask for besides: to protect the machine

# Said of numbers by numpy, not of an input by us.
_NOT_OURS = re.compile(r"encountered in|Casting|invalid value")
_TELLING = re.compile(r"warning: |error: |\bskipped \d|left out: |usage: ")


@dataclass(frozen=True)
class Attempt:
    """Inputs for a reader, and what has to come out of them."""

    reader: Reader
    name: str  # what is wrong with them
    files: Files
    claims: bool = False  # whether what comes out in silence has to be the truth
    truth: Files | np.ndarray | None = None
    tolerance: float = 0.0
    is_meaning: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt."""

    faults: tuple[str, ...]  # of `FAULTS`
    said: str  # the last line
    code: int  # exit code, or minus the signal
    seconds: float


FAULTS = ("tracebacks", "hangs", "changed", "escaped", "memory", "silent")


@dataclass(frozen=True)
class Usual:
    """What a reader does with its good inputs."""

    result: np.ndarray
    words: frozenset[str]


def usual(reader: Reader, folder: Path) -> Usual:
    """Read the good inputs in this process, which imports what is needed.

    Raises:
        RuntimeError: when they cannot be read: then nothing is learned from bad ones.
    """
    given, log = folder / "given", folder / "log"
    write(reader.good, given)
    with _words_into(log):
        try:
            code = reader.run(given, folder / "out")
        except SystemExit as error:
            code = int(error.code or 0)
    text = log.read_text(errors="replace")
    if code:
        raise RuntimeError(f"{reader.name}: the good input is not read: {text}")
    return Usual(reader.result(folder / "out"), frozenset(_telling(text)))


def attempt(given: Attempt, usually: Usual, kept: Path | None = None) -> Outcome:
    """Try some inputs in a process of their own.

    Args:
        given: what to try.
        usually: what the reader does with its good inputs.
        kept: where the inputs and what was said stay if there is a fault; None: nowhere.
    """
    # Deep enough for names that climb.
    root = Path(tempfile.mkdtemp(prefix="nid-bad-"))
    place = root / "one" / "two" / "three"
    for name in ("given", "results", "home", "tmp", "cwd"):
        (place / name).mkdir(parents=True)
    write(given.files, place / "given")
    before = _snapshot(root)
    log = root.with_name(f"{root.name}.log")
    start = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(given, usually, place, log, writing)
    os.close(writing)
    status, used, hung = _awaited(child)
    seconds = time.monotonic() - start
    with os.fdopen(reading, "rb") as pipe:
        report = pipe.read()
    code = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace") if log.exists() else ""
    after = _snapshot(root)
    found: dict[str, Any] = json.loads(report) if report else {}
    if "mistake" in found:
        raise RuntimeError(f"{given.reader.name}, {given.name}: {found['mistake']}")
    faults = {
        "hangs": hung,
        "tracebacks": not hung
        and (code not in (0, 2) or "Traceback (most recent" in text or (code == 2 and not _telling(text))),
        "memory": used > MEMORY or "memory: found" in text,
        "changed": any(after.get(name) != digest for name, digest in before.items()),
        "escaped": bool(set(after) - set(before)) or bool(found.get("wrote")),
        "silent": not hung and found.get("wrong", False),
    }
    lines = [line for line in text.splitlines() if line.strip()]
    said = lines[-1].replace(str(root), "")[-300:] if lines else ""
    if found.get("wrote"):
        said = f"wrote {found['wrote'][0]}; {said}"
    outcome = Outcome(tuple(name for name in FAULTS if faults[name]), said, code, seconds)
    if outcome.faults and kept is not None:
        shutil.copytree(place, kept, dirs_exist_ok=True)
        (kept / "said.txt").write_text(text)
    shutil.rmtree(root, ignore_errors=True)
    log.unlink(missing_ok=True)
    return outcome


def _child(given: Attempt, usually: Usual, place: Path, log: Path, pipe: int) -> None:
    """Never returns."""
    report: dict[str, Any] = {}
    code = 70
    try:
        os.setsid()
        faulthandler.disable()  # what a decoder does to its process is seen without a page of it
        os.chdir(place / "cwd")
        os.environ |= {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp")}
        tempfile.tempdir = None
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        out = place / "results" / "out"
        truth: np.ndarray | None = None
        if given.claims and given.truth is not None:
            truth = _truth(given, place)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _ROOM
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        wrote = _watch(place.parents[2], place)
        with _words_into(log):
            try:
                code = given.reader.run(place / "given", out)
            except SystemExit as error:
                code = int(error.code or 0)
            except BaseException:
                traceback.print_exc()
                code = 1
        report["wrote"] = list(wrote)
        wrote.append("")  # what follows is the benchmark's own
        if code == 0 and given.claims and not _said_more(log.read_text(errors="replace"), usually):
            report["wrong"] = truth is None or not _same(given.reader.result(out), truth, given.tolerance)
    except BaseException:
        report["mistake"] = traceback.format_exc()
    finally:
        os.write(pipe, json.dumps(report).encode())
        os._exit(code)


def _truth(given: Attempt, place: Path) -> np.ndarray:
    if isinstance(given.truth, np.ndarray):
        return given.truth
    assert given.truth is not None
    with tempfile.TemporaryDirectory(prefix="nid-twin-", dir="/tmp") as name:
        write(given.truth, Path(name, "given"))
        with _words_into(Path(name, "log")):
            code = given.reader.run(Path(name, "given"), Path(name, "out"))
        if code:
            raise RuntimeError(f"the plain twin is not read: {Path(name, 'log').read_text(errors='replace')}")
        return given.reader.result(Path(name, "out"))


def _same(found: np.ndarray, truth: np.ndarray, tolerance: float) -> bool:
    if found.shape != truth.shape:
        return False
    difference = np.abs(found.astype(np.float64) - truth.astype(np.float64))
    return bool(difference.mean() <= tolerance) if difference.size else True


def _awaited(child: int) -> tuple[int, int, bool]:
    """The status of a child, the most memory that it has had, in bytes, and whether it had to be ended."""
    begin, hung = time.monotonic(), False
    descriptor = os.pidfd_open(child)
    try:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        while not waiting.poll(1000):
            if _computed(child) > HANG or time.monotonic() - begin > _STUCK:
                hung = True
                os.killpg(child, signal.SIGKILL)
                break
    finally:
        os.close(descriptor)
    _, status, usage = os.wait4(child, 0)
    return status, usage.ru_maxrss * 1024, hung


def _computed(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _snapshot(root: Path) -> dict[str, str]:
    """What there is below a folder, but the results: digests of files by their paths."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if not name.startswith("one/two/three/results/out"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found


def _watch(root: Path, place: Path) -> list[str]:
    """Note every file that Python opens to write, makes, renames or removes outside the folder of an attempt."""
    wrote: list[str] = []
    allowed = (str(root), "/dev/", "/proc/")

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else False
            paths = [path] if writes else []
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.link"):
            paths = list(arguments[:2] if event in ("os.rename", "os.link", "os.symlink") else arguments[:1])
        else:
            return
        for each in paths:
            if isinstance(each, str | bytes | os.PathLike) and (not wrote or wrote[-1]):
                name = os.path.abspath(os.fsdecode(each))
                if not name.startswith(allowed):
                    wrote.append(name)

    sys.addaudithook(look)
    return wrote


def _telling(text: str) -> list[str]:
    """Lines that tell of an input, without their numbers."""
    lines = [line for line in text.splitlines() if _TELLING.search(line) and not _NOT_OURS.search(line)]
    return [re.sub(r"[\d.]+", "#", line) for line in lines]


def _said_more(text: str, usually: Usual) -> bool:
    return bool(set(_telling(text)) - usually.words)


class _words_into:
    """What is printed, by libraries too, goes into a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        sys.stdout.flush(), sys.stderr.flush()
        self._kept = [os.dup(number) for number in (1, 2)]
        self._old = sys.stdout, sys.stderr
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(file, number)
        os.close(file)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))

    def __exit__(self, *_: object) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.close()
        sys.stdout, sys.stderr = self._old
        for number, kept in zip((1, 2), self._kept, strict=True):
            os.dup2(kept, number)
            os.close(kept)
