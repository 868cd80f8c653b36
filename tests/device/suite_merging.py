"""Merging heads, and evaluating experts, on the device: as on the CPU, and without a wait."""

from collections.abc import Iterator

import pytest
import torch

from nid_dist.merging import choice, weighted_sum
from tests.device.simulated import counted

SIM = torch.device("sim")


class Clock:
    """An event whose times are what a test says: the runs between two of them take as long as their way does."""

    seconds = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = Clock.seconds

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: "Clock") -> float:
        return end.at - self.at


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """Nothing measured so far, on a device that can measure."""
    found: dict = {}
    monkeypatch.setattr(choice, "_fastest", found)
    monkeypatch.setattr(torch.get_device_module(SIM), "Event", Clock, raising=False)
    torch.use_deterministic_algorithms(False)
    yield found
    torch.use_deterministic_algorithms(True)


def tensors(experts: int, signals: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(experts)
    indices = torch.stack([torch.randperm(experts, generator=generator)[:3] for _ in range(signals)])
    return indices, torch.randn(signals, 3, generator=generator), torch.randn(experts, 7, generator=generator)


@pytest.mark.parametrize("way", ["auto", "product", "gather"])
@pytest.mark.parametrize("experts", [36, 37])
def test_a_merge_is_that_of_the_cpu_and_waits_for_nothing(way: str, experts: int) -> None:
    indices, *given = tensors(experts)
    results = []
    for device in (torch.device("cpu"), SIM):
        leaves = [x.to(device).requires_grad_() for x in given]
        leaves = [x.detach().requires_grad_() for x in leaves]
        places = indices.to(device)
        with counted(uploads=True) as waits:
            total = weighted_sum(places, *leaves, way)
            total.square().sum().backward()
        assert not waits, waits
        results.append([x.detach().cpu() for x in (total, *(leaf.grad for leaf in leaves))])
    for here, there in zip(*results, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fastest", ["product", "gather"])
def test_the_fastest_way_is_measured_once_and_kept(fastest: str, table: dict) -> None:
    ran: list[str] = []

    def way(name: str):
        def merge(indices, values, rows):
            ran.append(name)
            Clock.seconds += 1.0 if name == fastest else 2.0
            return values @ rows[:3]

        return merge

    indices, *given = (x.to(SIM) for x in tensors(40))
    merges = {name: way(name) for name in ("product", "gather", "kernel")}
    assert choice.chosen_way(merges, indices, *given) == fastest
    # Where there is no Triton, or no GPU, the kernel is not tried.
    assert set(ran) == {"product", "gather"}
    ran.clear()
    # Batches of nearly one size are alike; with a gradient it is another question, and so is one of other sizes.
    given[0], indices = (torch.cat([x, x[:3]]) for x in (given[0], indices))
    assert choice.chosen_way(merges, indices, *given) == fastest and not ran
    assert choice.chosen_way(merges, indices, given[0], given[1].clone().requires_grad_()) == fastest and ran
    assert len(table) == 2


def test_what_does_not_fit_is_not_chosen_and_what_cannot_win_not_tried(table: dict) -> None:
    def full(indices, values, rows):
        raise torch.OutOfMemoryError("too little")

    indices, *given = (x.to(SIM) for x in tensors(40))
    merges = {"product": full, "gather": lambda indices, values, rows: values @ rows[:3]}
    assert choice.chosen_way(merges, indices, *given) == "gather"
    many = torch.zeros(257 * 3, 1, device=SIM)
    merges["product"] = lambda *_: pytest.fail("a product with all experts")
    assert choice.chosen_way(merges, indices, given[0], many) == "gather"


def test_the_rule_decides_where_nothing_may_be_measured(monkeypatch: pytest.MonkeyPatch, table: dict) -> None:
    indices, values, rows = (x.to(SIM) for x in tensors(40))
    monkeypatch.setattr(choice, "_seconds", lambda *_: pytest.fail("measured"))
    torch.use_deterministic_algorithms(True)
    assert choice.chosen_way({}, indices, values, rows) == "gather"
    assert choice.chosen_way({}, indices, values, rows[:36]) == "product"
    torch.use_deterministic_algorithms(False)
    monkeypatch.setattr(torch.get_device_module(SIM), "is_current_stream_capturing", lambda: True, raising=False)
    assert choice.chosen_way({}, indices, values, rows) == "gather"
