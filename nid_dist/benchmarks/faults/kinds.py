"""The kinds of faults: what each does to a training that runs, until all of its processes have ended."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nid_dist.benchmarks.faults import damage, disks, injected
from nid_dist.benchmarks.faults.course import EVERY, KEEP, Course, Processes
from nid_dist.benchmarks.faults.processes import Training

_ENDS_WITHIN = 60.0  # seconds, on a machine that may be busy; it takes a few
_SILENCE = 6.0  # seconds after which a rank that does not answer is given up
_MEETING = 8.0  # seconds that processes wait for each other at the start
_LEFT = 60.0  # seconds in which processes notice that their launcher is gone, and write a checkpoint


@dataclass(frozen=True)
class Kind:
    """Of a fault."""

    name: str
    happen: Callable[[Course], None]
    two: int  # how many with two processes
    four: int = 0  # and with four
    quick: int = 1  # how many of those with two, to see that it works


def kill_one(course: Course) -> None:
    """A rank is killed at a random moment of the training."""
    _kill(course, course.running())


def kill_first(course: Course) -> None:
    """The rank whose process keeps the store is killed."""
    _kill(course, course.running(), 0)


def _kill(
    course: Course,
    training: Processes,
    rank: int | None = None,
    within: tuple[float, float] = (0.0, 0.4),
    ends_within: float = _ENDS_WITHIN,
) -> None:
    """Kill a rank (None: any) at a random moment of some seconds; the others end by themselves."""
    time.sleep(course.chance.uniform(*within))
    course.struck()
    training.kill(course.chance.randrange(course.size) if rank is None else rank)
    training.end(ends_within)


def kill_starting(course: Course) -> None:
    """A rank is killed at a random moment before the first step, or shortly after."""
    course.stop()
    training = course.begin(None, f"parallel.rendezvous_seconds={_MEETING}")
    _kill(course, training, None, (0.0, 1.0), 2 * _MEETING + _ENDS_WITHIN)


def kill_all(course: Course) -> None:
    """All ranks are killed at once."""
    training = course.running()
    time.sleep(course.chance.uniform(0.0, 0.4))
    course.struck()
    for rank in range(course.size):
        training.kill(rank)
    training.end(_ENDS_WITHIN)


def hang(course: Course) -> None:
    """A rank is stopped and does not answer; when all others have given it up, it wakes or is killed."""
    training = course.running(None, f"parallel.timeout_seconds={_SILENCE}")
    assert isinstance(training, Training)
    time.sleep(course.chance.uniform(0.0, 0.2))
    rank = course.chance.randrange(course.size)
    course.struck()
    training.kill(rank, signal.SIGSTOP)
    training.end(_SILENCE + _ENDS_WITHIN, but=(rank,))
    training.kill(rank, course.chance.choice((signal.SIGCONT, signal.SIGKILL)))
    training.end(_ENDS_WITHIN)


def stop(course: Course) -> None:
    """One rank or all are asked to stop."""
    training = course.running()
    time.sleep(course.chance.uniform(0.0, 0.3))
    ranks: Sequence[int] = course.chance.choice((range(course.size), [course.chance.randrange(course.size)]))
    number = course.chance.choice((signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT))
    course.struck()
    for rank in ranks:
        training.kill(rank, number)
    codes = training.end(_ENDS_WITHIN)
    assert set(codes) == {0}, codes


def die_in_write(course: Course) -> None:
    """A rank is killed when so many bytes of a checkpoint's file are written."""
    if not course.last:  # an earlier checkpoint says how many bytes a file has
        running = course.running()
        assert isinstance(running, Training)
        running.until(course.next + 1)
    course.stop()
    rank = course.chance.randrange(course.size)
    files = sorted(course.path(course.last).iterdir())
    shards = [path for path in files if path.suffix == ".safetensors"]
    file = files[0] if rank == 0 and course.chance.random() < 0.4 else shards[rank]
    size = course.chance.randrange(1, file.stat().st_size)
    fault = (injected.die_in_write, course.next, file.name, size)
    _end_of(course, {rank: fault}, -signal.SIGXFSZ)


def die_while_writing(course: Course) -> None:
    """A rank is killed just before one of the things that it does to the files of a checkpoint."""
    course.stop()
    rank = course.chance.choice((0, 0, 0, 1))
    event = course.chance.randrange(12) if rank == 0 else 0
    _end_of(course, {rank: (injected.die_while_writing, course.next, event)}, -signal.SIGKILL)


def die_while_replacing(course: Course) -> None:
    """Rank 0 is killed while it writes the same checkpoint a second time, and this takes the place of the first."""
    course.stop()
    event = course.chance.randrange(12, 22)
    fault = (injected.die_while_replacing, course.next - course.last, course.next, event)
    _end_of(course, {0: fault}, -signal.SIGKILL)


def _end_of(course: Course, faults: dict[int, tuple[object, ...]], code: int) -> None:
    training = course.running(faults)
    assert isinstance(training, Training)
    (rank,) = faults
    while training.codes[rank] is None:
        time.sleep(0.002)
        assert training.step <= course.last + 3 * EVERY, "the fault has not happened"
    course.struck()
    codes = training.end(_ENDS_WITHIN)
    assert codes[rank] == code, codes


def harm(how: Callable[[Course, Path], None], course: Course, count: int = 1) -> None:
    """The newest checkpoints are damaged at rest."""
    training = course.running()
    training.until(course.last + (KEEP + 1) * EVERY + 1)
    for rank in range(course.size):
        training.kill(rank)
    training.end(_ENDS_WITHIN)
    course.ended()
    for _ in range(count):
        how(course, course.path(course.last))
        course.damage(course.last)
    course.struck()


def _shard(course: Course, path: Path) -> Path:
    return course.chance.choice(sorted(path.glob("*.safetensors")))


def _flip_shard(course: Course, path: Path) -> None:
    damage.flip(_shard(course, path), course.chance)


def _flip_facts(course: Course, path: Path) -> None:
    damage.flip(path / damage.FACTS, course.chance)


def _cut_shard(course: Course, path: Path) -> None:
    damage.cut(_shard(course, path), course.chance)


def _cut_facts(course: Course, path: Path) -> None:
    damage.cut(path / damage.FACTS, course.chance)


def _blank(course: Course, path: Path) -> None:
    damage.blank(course.chance.choice(sorted(path.iterdir())), course.chance)


def _lose(course: Course, path: Path) -> None:
    course.chance.choice(sorted(path.iterdir())).unlink()


def _exchange(course: Course, path: Path) -> None:
    file = course.chance.choice(sorted(path.iterdir()))
    file.write_bytes((course.path(course.complete[-2]) / file.name).read_bytes())


def full_disk(course: Course) -> None:
    """A disk has room for a part of the next checkpoint only; it is freed after one vain attempt to go on."""
    training = course.running()
    training.until(EVERY + 1)
    newest = max((course.run / "checkpoints").glob("step-*"))
    needed = sum(path.stat().st_size for path in newest.iterdir())
    course.struck()
    with disks.filled(course.run, room=course.chance.randrange(needed)):
        codes = training.end(_ENDS_WITHIN)
        assert set(codes) == {2}, codes
        course.ended()
        codes = course.begin().end(60.0)
        assert set(codes) == {2}, codes
        course.ended()


def read_only(course: Course) -> None:
    """The folder of the checkpoints cannot be written to."""
    training = course.running()
    training.until(EVERY + 1)
    course.struck()
    with disks.read_only(course.run / "checkpoints"):
        codes = training.end(_ENDS_WITHIN)
        assert set(codes) == {2}, codes
        course.ended()


def resume_on_others(course: Course) -> None:
    """All ranks are killed; fewer or more go on."""
    kill_all(course)
    course.size = course.chance.choice([size for size in (1, 2, 4) if size != course.size])


def shift_clocks(course: Course) -> None:
    """The time of day of each process is another one, from the start on or suddenly, and files' times change."""
    days = [course.chance.choice((-400.0, -1.0, 0.0, 1.0, 400.0)) for _ in range(course.size)]
    steps = [course.chance.choice((0, 3)) for _ in days]
    shifts = enumerate(zip(days, steps, strict=True))
    training = course.running({rank: (injected.shift_clock, 86400.0 * day, step) for rank, (day, step) in shifts})
    _kill(course, training, None, (0.1, 0.4))
    damage.change_times(course.run, course.chance)


def kill_launcher(course: Course) -> None:
    """The launcher is killed, and its processes end by themselves."""
    _kill(course, course.running(), 0, (0.0, 1.0), _LEFT)


def _simulated_full_disk(course: Course) -> None:
    course.stop()
    rank = course.chance.randrange(course.size)
    _refused(course, {rank: (injected.fill_disk, course.next)})


def _simulated_read_only(course: Course) -> None:
    course.stop()
    rank = course.chance.randrange(course.size)
    _refused(course, {rank: (injected.refuse_writing, course.next)})


def _refused(course: Course, faults: dict[int, tuple[object, ...]]) -> None:
    training = course.running(faults)
    course.struck()
    codes = training.end(_ENDS_WITHIN)
    assert set(codes) == {2}, codes


KINDS = (
    Kind("a rank killed (SIGKILL), at any moment", kill_one, 40, 20, quick=2),
    Kind("a rank killed while it starts", kill_starting, 12, 4),
    Kind("all ranks killed at once", kill_all, 6, 4),
    Kind("the store's process killed (rank 0)", kill_first, 8, 4),
    Kind(f"a rank hangs (SIGSTOP; limit {_SILENCE:g} s)", hang, 8, 2),
    Kind("asked to stop (SIGTERM, SIGUSR1, SIGINT; one or all)", stop, 10, 4),
    Kind("killed in the middle of writing a file, at any byte", die_in_write, 16, 6, quick=2),
    Kind("killed between two operations on a checkpoint's files", die_while_writing, 16, 6, quick=2),
    Kind("killed while a checkpoint replaces one of its step", die_while_replacing, 8),
    Kind("a byte of a shard changed at rest", partial(harm, _flip_shard), 12, 4),
    Kind("a byte of the facts changed at rest", partial(harm, _flip_facts), 8, 2),
    Kind("a shard cut at rest", partial(harm, _cut_shard), 12, 4),
    Kind("the facts cut at rest", partial(harm, _cut_facts), 8, 2),
    Kind("the end of a file zeros", partial(harm, _blank), 6, 2),
    Kind("a file missing", partial(harm, _lose), 4),
    Kind("a file of another checkpoint", partial(harm, _exchange), 4),
    Kind("the two newest checkpoints damaged", partial(harm, _flip_shard, count=2), 4),
    Kind("clocks shifted, files' times changed, a rank killed", shift_clocks, 10, 4),
    Kind("gone on with on fewer or more ranks (1, 2, 4)", resume_on_others, 12),
)
"""That happen to forked processes on an ordinary disk."""

DISKS = (
    Kind("disk full (a tmpfs of its own)", full_disk, 10),
    Kind("folder read-only (a mount of its own)", read_only, 8),
)
"""For who may mount file systems."""

SIMULATED_DISKS = (
    Kind("disk full (simulated: files of 1000 bytes at most)", _simulated_full_disk, 10),
    Kind("folder read-only (simulated: each write refused)", _simulated_read_only, 8),
)
"""For who may not."""
