"""One rank of 64 on the device: messages of PyTorch's fake process group, which come from nowhere but have right sizes.

What is sent is what is planned, and nothing waits for the device: sizes of messages follow from the configuration, and
what hosts agree on goes past it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from nid_dist.checkpoints import checkpoint
from nid_dist.coding.solvers import sharded
from nid_dist.parallel import process_group_world, setup
from nid_dist.parallel.exchange.exchange import Traffic
from nid_dist.parallel.launch.launching import Launch
from nid_dist.planning.cost import Message, fetches, step_messages
from nid_dist.planning.run import Run
from nid_dist.training.run import train
from nid_dist.training.step import TrainingStep
from tests.device.same import read_log
from tests.device.simulated import Wait, counted
from tests.tiny import tiny

RANKS, HERE = 64, 8
BASE = ["training.steps=3", "training.batch=256", "optimizer.accumulation=2", "logging.log_every=3"]
BASE += ["parallel.engine=fairscale", "parallel.device=sim"]
DEEP = ["dictionary={experts: 32, width: 16, private_layers: 2, private_width: 6}"]

DEEPSPEED = ["parallel.engine=deepspeed", "parallel.device=cpu"]  # it does not know the device


@pytest.fixture(autouse=True)
def fake_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    def join(launch: Launch, **_: Any) -> None:
        dist.init_process_group("fake", store=FakeStore(), rank=launch.rank, world_size=launch.size)

    send = dist.all_to_all_single

    def send_to_itself(output: torch.Tensor, input: torch.Tensor, *given: Any, **named: Any) -> Any:
        if output.shape != input.shape:  # as many rows as others ask for, who do not ask
            output.fill_(1)
            return None
        work = send(output, input, *given, **named)
        output.copy_(input)  # or some of what happened to be in memory is no index
        return work

    monkeypatch.setattr("nid_dist.parallel.launch.rendezvous.join", join)
    monkeypatch.setattr(setup, "join", join)
    monkeypatch.setattr(process_group_world, "_HOST_BACKEND", "fake")
    monkeypatch.setattr(dist, "all_to_all_single", send_to_itself)
    # One rank alone finds no shards of the others.
    monkeypatch.setattr(checkpoint, "save", lambda *_, **__: Path("nowhere"))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Message], list[Wait]]]:
    """What each step sends, and where the host waits in it."""
    found: list[tuple[list[Message], list[Wait]]] = []
    sent: list[Message] = []
    run, message = TrainingStep.run, Traffic.message

    def counted_run(self: TrainingStep, *given: Any, **named: Any) -> Any:
        sent.clear()
        with counted() as waits:
            figures = run(self, *given, **named)
        found.append((sorted(sent), [wait for wait in waits.elements() if not wait.place.endswith("choice.py")]))
        return figures

    @contextmanager
    def counted_message(self: Traffic, kind: str, size: int, device: torch.device) -> Iterator[None]:
        sent.append(Message(kind, size))
        with message(self, kind, size, device):
            yield

    monkeypatch.setattr(TrainingStep, "run", counted_run)
    monkeypatch.setattr(Traffic, "message", counted_message)
    return found


@pytest.mark.parametrize(
    ("mode", "given"),
    [
        ("gate", ["parallel.expert_parallel_size=2"]),
        ("gate", ["parallel.expert_parallel_size=8"]),
        ("gate", ["parallel.expert_parallel_size=4", *DEEP]),
        ("gate", ["parallel.expert_parallel_size=8", "parallel.checkpoint_gate=true"]),
        ("gate", ["parallel.expert_parallel_size=8", *DEEPSPEED]),
        ("gate", ["parallel.expert_parallel_size=8", *DEEPSPEED, "parallel.zero_stage=1"]),
        ("solve", ["parallel.expert_parallel_size=8"]),
        ("distill", ["parallel.expert_parallel_size=8"]),
    ],
)
def test_a_training(images: Path, tmp_path: Path, steps: list[Any], mode: str, given: list[str]) -> None:
    config = tiny(images, tmp_path / "run", *BASE, f"coding.phases=[{{mode: {mode}}}]", *given)
    train(config, launch=Launch("torchrun", 0, RANKS, 0, HERE, "127.0.0.1", 1))
    planned = sorted(step_messages(Run(config, 3, 64, RANKS), config.parallel.expert_parallel_size or 1, mode))
    assert [sent for sent, _ in steps[1:]] == [planned] * 2
    if mode == "gate":  # in the others a solver has a say
        assert [waits for _, waits in steps[1:]] == [[], []]
    (line,) = [line for line in read_log(tmp_path / "run") if line["event"] == "train"]
    assert all(line[f"ms/wait_{kind}"] >= 0 for kind in ("codes", "sums"))


def test_what_a_solver_fetches_is_waited_for_once_in_each_block(
    images: Path, tmp_path: Path, steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded, "LATENCY", 0)
    given = ["dictionary={experts: 256, width: 32}", "coding.blocks=2", "training.batch=128"]
    config = tiny(images, tmp_path / "run", *BASE, "coding.phases=[{mode: solve}]", *given)
    assert fetches(Run(config, 3, 64, RANKS), HERE)
    train(config, launch=Launch("torchrun", 0, RANKS, 0, HERE, "127.0.0.1", 1))
    for _, waits in steps[1:]:
        assert sum("fetching.py" in wait.place for wait in waits) == config.optimizer.accumulation * 2
