"""Jobs in which something goes wrong: all processes end soon, and one line says what and where."""

import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch.distributed as dist

from nid_dist.errors import UserError
from nid_dist.parallel.launch.failures import is_lost_connection
from nid_dist.parallel.launch.network import free_port
from tests.parallel.jobs import PROGRAM, Job, Outcome, run, run_jobs

KILLED, SILENT = -int(signal.SIGKILL), "found no answer for 4 s (parallel.timeout_seconds), expected one"
JOBS = {
    "hung": Job("hung", 1, timeout=4.0),
    "stopped with the store": Job("stopped", 0, timeout=4.0),
    "hung elsewhere": Job("hung", 2, size=4, machines=2, timeout=4.0),
    "killed": Job("killed", 1),
    "killed with the store": Job("killed", 0),
    "killed elsewhere": Job("killed", 3, size=4, machines=2),
    "killed elsewhere with the store": Job("killed", 0, size=4, machines=2),
    "error": Job("error", 1),
    "error where the store is": Job("error", 0),
    "error elsewhere": Job("error", 0, size=4, machines=2),
    "killed while others wait": Job("killed", 1, deaf=True),
    "killed with the store while others wait": Job("killed", 0, deaf=True),
    "killed elsewhere while others wait": Job("killed", 3, size=4, machines=2, deaf=True),
    "hung while others wait": Job("hung", 1, timeout=4.0, deaf=True),
    "stopped while others wait": Job("stopped", 1, timeout=4.0, deaf=True),
    "error while others wait": Job("error", 1, deaf=True),
    "all": Job("all"),
    "before joining": Job("before"),
    "mistake": Job("mistake", 1),
}
SOON = 4.0 + 3.0 + 3.0 + 15.0  # timeout, grace for the others, for leaving the store; and a busy machine
WAITING = " while others wait"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return run_jobs(
        {name: replace(job, port=free_port()) for name, job in JOBS.items()}, tmp_path_factory.mktemp("jobs")
    )


def survivors(outcomes: dict[str, Outcome], name: str) -> Outcome:
    """What came of all but the one that went wrong."""
    outcome, wrong = outcomes[name], JOBS[name].wrong
    others = {rank: code for rank, code in outcome.codes.items() if rank != wrong}
    assert set(others.values()) == {2} and len(others) == JOBS[name].size - 1, outcome
    assert max(outcome.seconds[rank] for rank in others) < SOON
    return outcome


@pytest.mark.parametrize("name", ["killed", "killed with the store", "killed elsewhere"])
@pytest.mark.parametrize("deaf", ["", WAITING])
def test_a_rank_that_is_killed_is_named(outcomes: dict[str, Outcome], name: str, deaf: str) -> None:
    name += deaf
    outcome, wrong = survivors(outcomes, name), JOBS[name].wrong
    assert outcome.codes[wrong] == KILLED
    ((speaker, said),) = outcome.spoken
    assert re.match(
        rf"error: rank {wrong} \(process \d+ on \S+\): found ended, expected running; .* --resume auto$", said
    )
    assert speaker != wrong


def test_a_killed_rank_that_kept_the_store_is_named_on_each_machine(outcomes: dict[str, Outcome]) -> None:
    # Nothing is left by which machines could agree on who speaks.
    spoken = survivors(outcomes, "killed elsewhere with the store").spoken
    assert [re.sub(r" \(.*?\)|;.*", "", said) for _, said in spoken] == [
        "error: rank 0: found ended, expected running",
        "error: rank 0: found no connection any more, expected one that lasts",
    ]
    assert spoken[0][0] == 1 and spoken[1][0] in (2, 3)


@pytest.mark.parametrize(
    "name", ["hung", "stopped with the store", "hung elsewhere", f"hung{WAITING}", f"stopped{WAITING}"]
)
def test_a_silent_rank_is_named(outcomes: dict[str, Outcome], name: str) -> None:
    outcome, wrong = survivors(outcomes, name), JOBS[name].wrong
    # One that wakes up when it is too late has nothing to say.
    assert outcome.codes[wrong] == (KILLED if "stopped" in name else 2)
    ((_, said),) = outcome.spoken
    assert said.startswith(f"error: rank {wrong} (process ") and SILENT in said


@pytest.mark.parametrize(
    "name", ["error", "error where the store is", "error elsewhere", f"error{WAITING}", "all", "before joining"]
)
def test_an_error_is_said_once(outcomes: dict[str, Outcome], name: str) -> None:
    ((speaker, said),) = survivors(outcomes, name).spoken
    assert said == f"error: scenario {JOBS[name].scenario}: found an error, expected none; go on"
    assert speaker == JOBS[name].wrong or name == "all"


@pytest.mark.parametrize("name", ["killed", "killed with the store", "error", "error elsewhere", "all", "mistake"])
def test_nothing_is_left(outcomes: dict[str, Outcome], name: str) -> None:
    assert outcomes[name].left == []


def test_a_mistake_of_the_program_keeps_its_traceback(outcomes: dict[str, Outcome]) -> None:
    outcome = survivors(outcomes, "mistake")
    assert outcome.codes[1] == 1 and outcome.spoken == []
    lines = outcome.errors[1].splitlines()
    assert "Traceback (most recent call last):" in lines and lines[-1] == "ValueError: a mistake"
    assert "Traceback" not in outcome.errors[0] + outcome.errors[2]


@pytest.mark.parametrize(
    "launcher",
    [
        ["deepspeed", "--num_gpus", "2", "--no_local_rank", "--master_port", "PORT", PROGRAM[1]],
        ["torchrun", "--standalone", "--nproc_per_node", "2", PROGRAM[1]],
        ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", *PROGRAM],
    ],
)
def test_under_a_launcher(launcher: list[str], tmp_path: Path) -> None:
    words = [str(free_port()) if word == "PORT" else word for word in launcher]
    code, _, err = run([*words, "killed", "1"], TMPDIR=str(tmp_path))
    lines = [line for line in err.splitlines() if line.startswith("nid-x: ")]
    assert code != 0
    assert len(lines) == 1 and lines[0].startswith("nid-x: error: rank 1 (process "), err


@pytest.mark.parametrize(
    "text",
    [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:4711",
        "[../gloo/transport/tcp/pair.cc:537] Read error [10.0.0.2]:4711: Connection reset by peer",
        "[../gloo/transport/tcp/pair.cc:333] writev [10.0.0.2]:4711: Broken pipe",
        "[../gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 3000ms for recv operation to complete",
        "Application timeout caused pair closure",
        "Rank 1 failed to pass monitoredBarrier in 2000 ms",
        "NCCL error in: ..., remote process exited or there was a network error, NCCL version 2.26",
        "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3, OpType=ALLREDUCE)",
    ],
)
def test_texts_of_lost_connections(text: str) -> None:
    assert is_lost_connection(RuntimeError(text))
    assert is_lost_connection(dist.DistBackendError(text))
    assert not is_lost_connection(ValueError(text))


def test_other_errors_are_no_lost_connections() -> None:
    assert is_lost_connection(dist.DistNetworkError("anything")) and is_lost_connection(dist.DistStoreError("anything"))
    for text in ("CUDA error: the launch timed out and was terminated", "shapes (2, 3) and (4,) differ", ""):
        assert not is_lost_connection(RuntimeError(text))


def test_causes_count_unless_the_user_has_been_told() -> None:
    lost = RuntimeError("Connection closed by peer")

    def raised(error: Exception, cause: Exception | None, hide: bool = False) -> Exception:
        try:
            try:
                raise lost
            except RuntimeError:
                if cause is not None or hide:
                    raise error from cause
                raise error  # noqa: B904
        except Exception as caught:
            return caught

    assert is_lost_connection(raised(ValueError("a"), lost))
    assert is_lost_connection(raised(ValueError("a"), None))
    assert not is_lost_connection(raised(ValueError("a"), None, hide=True))
    assert not is_lost_connection(raised(UserError("a", found="b", expected="c", hint="d"), lost))
