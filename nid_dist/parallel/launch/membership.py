"""Who takes part in a job: what its processes have told each other through their store, and which of them live."""

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

_PATIENCE = 2.0  # seconds for a store to answer, which takes it milliseconds
_OLD = 24 * 3600.0  # seconds after which no process of a failed job is left to ask for the word
_ESTABLISHED = 1  # the first byte of TCP_INFO
_T = TypeVar("_T")


@dataclass(frozen=True)
class Process:
    """One process of a job."""

    rank: int  # its rank
    host: str  # its machine's name, to be read by people
    machine: str  # its kernel and the namespace of its pid: where they are the same, processes see each other
    pid: int  # its number
    began: int  # when it began, so that another process with a reused number is not taken for it
    gpu: str = ""  # that it computes on, by a name that no other GPU has; empty: none

    @classmethod
    def this(cls, rank: int, gpu: str = "") -> "Process":
        """The one that runs this."""
        return cls(rank, socket.gethostname(), _machine(), os.getpid(), began(os.getpid()) or 0, gpu)

    def ended(self) -> bool:
        """Whether it is seen to have ended; of other machines' processes that is never known."""
        return self.machine == _machine() and began(self.pid) != self.began

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host})"


class Job:
    """The processes of a job, as one of them knows them.

    Args:
        store: of `torch.distributed`, for this job alone.
        identity: unique, the same for all processes.
        keeper: the rank whose process keeps the store; None: a launcher's.
        timeout_seconds: after which a rank that does not answer is given up.
    """

    def __init__(
        self, store: Any, identity: str, rank: int, port: int, keeper: int | None, timeout_seconds: float
    ) -> None:
        self.store, self.identity, self.rank, self.port = store, identity, rank, port
        self.second_store = store.clone()  # for another thread: a call that waits holds up all others of its connection
        self.keeper, self.timeout_seconds = keeper, timeout_seconds
        self.processes: list[Process] = []
        self.sockets: Collection[str] = ()  # that were open when all processes had come to the store
        self.lost_store = False
        self.patience: float | None = None  # seconds, for who can wait longer
        self._claims = False

    def publish(self, process: Process) -> bool:
        """Tell the others about this process; False: another one has its rank already."""
        record = json.dumps(asdict(process))
        known = bool(self.store.compare_set(f"process/{self.rank}", "", record).decode() == record)
        if known:
            self.store.set(f"beat/{self.rank}", "0")
        return known

    def beat(self, number: int) -> list[bytes] | None:
        """Give a sign of life, and take those of the `others`; None: the store does not answer."""

        def tell_and_ask(store: Any) -> list[bytes]:
            store.set(f"beat/{self.rank}", str(number))
            return list(store.multi_get([f"beat/{process.rank}" for process in self.others]))

        return self.ask(tell_and_ask)

    def published(self, rank: int) -> Process | None:
        """What a process has told about itself, if it has come."""
        key = f"process/{rank}"
        return Process(**json.loads(self.store.get(key))) if self.store.check([key]) else None

    @property
    def others(self) -> list[Process]:
        """All known processes but this one."""
        return [process for process in self.processes if process.rank != self.rank]

    def ask(self, question: Callable[[Any], _T]) -> _T | None:
        """Ask the store something when processes may have failed: never fails, and takes seconds at most.

        Returns:
            The answer; None: the store does not answer, now or before.
        """
        # PyTorch would lament a store that is gone on stderr, so look first.
        if self.lost_store or not self._connected():
            self.lost_store = True
            return None
        try:
            return answer_within(self.patience or _PATIENCE, lambda: question(self.store))
        except (RuntimeError, TimeoutError):
            self.lost_store = True
            return None

    def mark(self, kind: str) -> None:
        """Let the others know that this process has come to some point."""
        self.ask(lambda store: (store.set(f"{kind}/{self.rank}", "1"), store.add(kind, 1)))

    def marked(self, kind: str, processes: Iterable[Process]) -> set[int]:
        """Which ranks of these processes have come to that point, as far as the store answers."""
        wanted = [process.rank for process in processes]
        return self.ask(lambda store: {rank for rank in wanted if store.check([f"{kind}/{rank}"])}) or set()

    def count(self, kind: str) -> int:
        """How many have come to that point, at least; 0 where the store does not answer."""
        return self.ask(lambda store: store.add(kind, 0)) or 0

    def claim(self) -> bool:
        """Whether this process is the first of the job that asks this; the others leave the word to it.

        By a file in the folder for temporary files for those on the same machine, as the store may have gone with the
        process that failed, then by the store.
        """
        _remove_old_claims()
        try:
            os.close(os.open(self._claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._claims = True
        except FileExistsError:
            return False
        except OSError:
            pass  # nowhere to write to: better said twice than not at all
        return self.ask(lambda store: store.add("claims", 1)) in (None, 1)

    def claimed(self) -> bool:
        """Whether some process has claimed the word."""
        return self._claim.exists() or bool(self.ask(lambda store: store.add("claims", 0)))

    def clear(self) -> None:
        """Remove the claim's file, if it is this process's, once nobody else on this machine can ask for it."""
        here = [process for process in self.others if process.machine == _machine()]
        if self._claims and wait_until(_PATIENCE, lambda: all(process.ended() for process in here)):
            with suppress(OSError):
                self._claim.unlink()

    @property
    def _claim(self) -> Path:
        return Path(tempfile.gettempdir(), f"nid_dist-{self.identity}")

    def _connected(self) -> bool:
        """Whether the connection to the store lasts; a new one, to find out, would cost the store a reverse look-up."""
        for number in open_sockets().values():
            with suppress(OSError), socket.socket(fileno=os.dup(number)) as connection:
                inet = connection.family in (socket.AF_INET, socket.AF_INET6)
                if inet and connection.getpeername()[1] == self.port:
                    state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
                    return state == _ESTABLISHED
        return False


def _remove_old_claims() -> None:
    """Remove what processes of earlier jobs could not: those that were stopped, or killed while they had the word."""
    for path in Path(tempfile.gettempdir()).glob(f"nid_dist-{'[0-9a-f]' * 32}"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD:
                path.unlink()


def answer_within(seconds: float, call: Callable[[], _T]) -> _T:
    """Call something that may block for ever; it is left behind in a thread of its own, if it takes longer.

    Raises:
        TimeoutError: when it has not.
        Exception: what it raised.
    """
    answers: list[_T] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            answers.append(call())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return answers[0]


def wait_until(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait for something, looking often at first and then twice a second."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(0.5, 1.5 * pause)
    return True


def open_sockets() -> dict[str, int]:
    """This process's sockets: an open file's number by the socket's name."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{number}")
            if name.startswith("socket:"):
                found[name] = int(number)
    return found


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def began(pid: int) -> int | None:
    """When a process began, in clock ticks since its machine did; None: it has ended."""
    try:
        # Behind the program's name, which may hold anything: the state, and 19 fields on the time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
