"""Which device a process takes: a table of requests, launches and machines, none of which has to be there."""

import time
import types

import pytest
import torch

from nid_dist import device
from nid_dist.device import (
    AUTO_VARIABLE,
    EventTimer,
    Stopwatch,
    choose_device,
    decide_device,
    processes_for,
    resolve_device,
    synchronise,
    use_device,
)
from nid_dist.errors import UserError


@pytest.mark.parametrize(
    ("name", "visible", "local_rank", "local_size", "expected", "reason"),
    [
        ("auto", 0, 0, 1, "cpu", "no GPU here"),
        ("auto", 0, 1, 2, "cpu", "no GPU here"),
        ("auto", 1, 0, 1, "cuda:0", "the only GPU here"),  # --single-process, deepspeed --num_gpus 1, torchrun with 1
        ("auto", 4, 0, 1, "cuda:0", "the first of 4 GPUs here"),
        ("auto", 4, 3, 4, "cuda:3", "a GPU for each of the 4 processes here"),
        ("auto", 8, 1, 2, "cuda:1", "a GPU for each of the 2 processes here"),
        ("auto", 1, 3, 4, "cuda:0", "the only GPU that is shown to this process of 4 here"),  # srun --gpus-per-task=1
        ("cuda", 1, 0, 1, "cuda:0", "the only GPU here"),
        ("cuda", 2, 1, 2, "cuda:1", "a GPU for each of the 2 processes here"),
        ("cuda:1", 2, 0, 1, "cuda:1", "asked for, of 2 GPUs here"),
        ("cuda:0", 1, 3, 4, "cuda:0", "asked for, of 1 GPU here"),
        ("cpu", 4, 3, 8, "cpu", "asked for"),
    ],
)
def test_the_device_of_a_process(
    name: str, visible: int, local_rank: int, local_size: int, expected: str, reason: str
) -> None:
    choice = decide_device(name, visible, local_rank, local_size)
    assert (choice.device, choice.reason) == (torch.device(expected), reason)
    assert str(choice) == f"device: {expected} ({reason})"


def test_a_build_for_cpus_says_so() -> None:
    assert decide_device("auto", 0, cuda_build=False).reason == "PyTorch is built for CPUs only"


@pytest.mark.parametrize(
    ("name", "visible", "processes", "cuda_build", "message"),
    [
        (
            "cuda:3",
            1,
            1,
            True,
            "device: found cuda:3 with 1 GPU here, expected a device that is there; choose a number b",
        ),
        ("cuda", 0, 1, True, "device: found cuda where PyTorch finds no GPU, .*; see nvidia-smi, .*, or choose cpu"),
        (
            "cuda:0",
            0,
            1,
            False,
            r"device: found cuda:0 with a PyTorch built for CPUs \(.*\), .*; install a build for CUDA",
        ),
        ("cuda:1", 4, 2, True, "device: found cuda:1 with 2 processes here, .*; choose auto"),
        ("auto", 2, 4, True, "the number of processes on this machine: found 4 with 2 GPUs, expected a GPU for each"),
        ("gpu", 1, 1, True, "device: found 'gpu', expected auto, cpu, cuda or cuda:N; choose one of these"),
        ("cuda:x", 1, 1, True, "device: found 'cuda:x', expected auto"),
        ("cuda:-1", 1, 1, True, "device: found 'cuda:-1', expected auto"),
        ("mps", 1, 1, True, "device: found 'mps', expected auto"),
    ],
)
def test_a_device_that_is_not_there(name: str, visible: int, processes: int, cuda_build: bool, message: str) -> None:
    for rank in range(processes):  # all say the same
        with pytest.raises(UserError, match=message) as caught:
            decide_device(name, visible, rank, processes, cuda_build=cuda_build)
        assert "\n" not in str(caught.value)


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(AUTO_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
    assert str(choose_device("auto", 1, 2)) == "device: cuda:1 (Card 1, a GPU for each of the 2 processes here)"
    assert resolve_device(torch.device("cuda")) == torch.device("cuda:0")
    assert [processes_for(name, 2) for name in ("auto", "cuda", "cuda:1", "cpu")] == [2, 2, 1, 2]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert [processes_for(name, 2) for name in ("auto", "cuda", "cpu")] == [1, 1, 2]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    # What `auto` means is a machine's to say; what is asked for by name is not.
    monkeypatch.setenv(AUTO_VARIABLE, "cpu")
    assert str(choose_device("auto", 1, 2)) == f"device: cpu ({AUTO_VARIABLE}=cpu)"
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert str(use_device("cuda:1")) == "device: cuda:1 (Card 1, asked for, of 2 GPUs here)"
    assert str(use_device("auto")) == f"device: cuda:1 (Card 1, {AUTO_VARIABLE}=cuda:1)"
    assert processes_for("auto", 2) == 1


def test_a_stopwatch_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []

    class Backend:
        def synchronize(self, device: torch.device) -> None:
            waited.append(device)

    monkeypatch.setattr(torch, "get_device_module", lambda _: Backend())
    synchronise(torch.device("cpu"))
    assert Stopwatch().seconds() >= 0 and waited == []
    watch = Stopwatch(torch.device("cuda:1"))
    first = watch.seconds()
    assert watch.seconds() >= first >= 0
    assert waited == [torch.device("cuda:1")] * 3
    assert device.gpu_identity(torch.device("cpu")) == ""


def test_a_timer_of_the_cpu_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([1.0, 1.5, 3.0, 3.25, 9.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    timer = EventTimer()
    for expected in (0.5, 0.75):
        timer.start()
        timer.stop()
        assert timer.seconds() == expected
    timer.reset()
    timer.start()
    timer.stop()
    assert timer.seconds() == 1.0


def test_a_timer_of_a_gpu_waits_only_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, waited = iter([0.0, 40.0, 100.0, 101.0, 200.0, 202.0]), []  # milliseconds at which it comes to each event

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = next(stream)

        def synchronize(self) -> None:
            waited.append(self.at)

        def elapsed_time(self, end: "Event") -> float:
            return end.at - self.at

    monkeypatch.setattr(torch, "get_device_module", lambda _: types.SimpleNamespace(Event=Event))
    timer = EventTimer(torch.device("cuda:1"))
    for _ in range(2):
        timer.start()
        timer.stop()
    assert waited == []
    assert timer.seconds() == timer.seconds() == pytest.approx(0.041)
    assert waited == [101.0]  # the last event's, once
    timer.start()
    timer.stop()
    assert timer.seconds() == pytest.approx(0.043)
