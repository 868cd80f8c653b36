"""The simulated device computes as the CPU does, and refuses what CUDA refuses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nid_dist.device import EventTimer
from tests.device.simulated import SimulatedTensor, counted, syncs

SIM = torch.device("sim")
Function = Callable[..., Tensor]


def spd() -> Tensor:
    return torch.eye(4) * 4 + torch.full((3, 4, 4), 0.5)


COMPUTED: dict[str, tuple[Function, list[Tensor]]] = {
    "elementwise": (lambda a: F.gelu(a.sin() * 2 - a.exp()), [torch.randn(4, 5)]),
    "matmul": (lambda a, b: a @ b, [torch.randn(4, 5), torch.randn(5, 6)]),
    "einsum": (lambda a, b: torch.einsum("tij,tjk->tki", a, b), [torch.randn(2, 4, 5), torch.randn(2, 5, 6)]),
    "bmm": (torch.bmm, [torch.randn(2, 4, 5), torch.randn(2, 5, 6)]),
    "conv2d": (lambda a, b: F.conv2d(a, b, padding=1), [torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3)]),
    "eigh": (lambda a: torch.linalg.eigh(a)[0], [spd()]),
    "cholesky_ex": (lambda a: torch.linalg.cholesky_ex(a)[0], [spd()]),
    "cholesky_solve": (lambda a, b: torch.cholesky_solve(b, torch.linalg.cholesky(a)), [spd(), torch.randn(3, 4, 2)]),
    "triangular": (lambda a, b: torch.linalg.solve_triangular(a, b, upper=True), [spd(), torch.randn(3, 4, 2)]),
    "topk": (lambda a: a.topk(2).values, [torch.randn(4, 5)]),
    "gather": (lambda a, i: a.gather(1, i[:, None]), [torch.randn(4, 5), torch.tensor([0, 2, 1, 2])]),
    "scatter": (lambda a, i: a.scatter(1, i[:, None], 2 * a[:, :1]), [torch.randn(4, 5), torch.tensor([0, 2, 1, 2])]),
    "index": (lambda a, i: a[i, :2] + a[:, [0, 1]], [torch.randn(4, 5), torch.tensor([0, 2, 1, 2])]),
    "index_add": (lambda a, i: a.index_add(0, i, 2 * a), [torch.randn(4, 5), torch.tensor([0, 2, 1, 2])]),
    "embedding_bag": (
        lambda a, i, w: F.embedding_bag(i[None], a, mode="sum", per_sample_weights=w[None]),
        [torch.randn(4, 5), torch.tensor([0, 2, 1, 2]), torch.randn(4)],
    ),
    "in place": (lambda a: a.clone().mul_(2).add_(a).clamp_(-1, 1), [torch.randn(4, 5)]),
    "views": (lambda a: a.t().reshape(2, 10)[:, ::2].unsqueeze(1).expand(2, 3, 5).flatten(), [torch.randn(4, 5)]),
    "reductions": (lambda a: a.std(1) + a.norm() + a.logsumexp(1) + a.median(1).values, [torch.randn(4, 5)]),
    "fft": (lambda a: torch.fft.irfft2(torch.fft.rfft2(a) * 2), [torch.randn(4, 6)]),
    "checkpoint": (lambda a: checkpoint(lambda b: b.sin().square(), a, use_reentrant=False), [torch.randn(4, 5)]),
    "second derivative": (
        lambda a: torch.autograd.grad(a.pow(3).sum(), a, create_graph=True)[0],
        [torch.randn(4, 5)],
    ),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_values_and_gradients_are_those_of_the_cpu(name: str) -> None:
    function, inputs = COMPUTED[name]
    found = []
    for device in (torch.device("cpu"), SIM):
        given = [x.to(device).requires_grad_(x.is_floating_point()) for x in inputs]
        given = [x.detach().requires_grad_(x.requires_grad) for x in given]
        result = function(*given)
        result.square().sum().backward()
        gradients = [x.grad for x in given if x.grad is not None]
        assert {x.device.type for x in (result, *gradients)} == {device.type}
        found.append([x.detach().cpu() for x in (result, *gradients)])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("foreach", [None, False, True])
def test_a_training_is_that_of_the_cpu(foreach: bool | None) -> None:
    ends = []
    for device in (torch.device("cpu"), SIM):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 1)).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, foreach=foreach)
        for _ in range(5):
            model(torch.arange(12.0, device=device).view(3, 4)).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        ends.append(nn.utils.parameters_to_vector(model.cpu().parameters()))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-6, atol=1e-6)


def on_sim(*shape: int) -> Tensor:
    return torch.zeros(shape, device=SIM)


def longs(device: str) -> Tensor:
    return torch.zeros(2, dtype=torch.long, device=device)


REFUSED: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "add": (RuntimeError, "same device", lambda: on_sim(2) + torch.zeros(2)),
    "add in place": (RuntimeError, "same device", lambda: torch.zeros(2).add_(on_sim(2))),
    "number of the device": (RuntimeError, "same device", lambda: torch.zeros(2) * on_sim()),
    "matmul": (RuntimeError, "same device", lambda: on_sim(2, 2) @ torch.zeros(2, 2)),
    "cat": (RuntimeError, "same device", lambda: torch.cat([on_sim(2), torch.zeros(2)])),
    "stack": (RuntimeError, "same device", lambda: torch.stack([on_sim(), torch.zeros(())])),
    "where": (RuntimeError, "same device", lambda: torch.where(longs("cpu") > 0, on_sim(2), on_sim(2))),
    "layer": (RuntimeError, "same device", lambda: nn.Linear(2, 2).to(SIM)(torch.zeros(1, 2))),
    "index_select": (RuntimeError, "same device", lambda: on_sim(2).index_select(0, longs("cpu"))),
    "embedding": (RuntimeError, "same device", lambda: F.embedding(longs("cpu"), on_sim(2, 2))),
    "indices of the device": (RuntimeError, "indices", lambda: torch.zeros(2)[longs("sim")]),
    "values of the cpu": (RuntimeError, "same device", lambda: on_sim(2).__setitem__(longs("sim"), torch.ones(2))),
    "numpy": (TypeError, "cpu()", lambda: on_sim(2).numpy()),
    "asarray": (TypeError, "cpu()", lambda: np.asarray(on_sim(2))),
    "randn": (RuntimeError, "generator", lambda: torch.randn(2, device=SIM, generator=torch.Generator())),
    "normal_": (RuntimeError, "generator", lambda: on_sim(2).normal_(generator=torch.Generator())),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cuda_refuses_is_refused(name: str) -> None:
    error, text, call = REFUSED[name]
    with pytest.raises(error, match=text.replace("(", "\\(").replace(")", "\\)")):
        call()


def test_what_cuda_takes_is_taken() -> None:
    assert (on_sim(2) + torch.ones(())).tolist() == [1, 1]
    assert torch.where(on_sim(2) == 0, on_sim(2), torch.ones(())).tolist() == [0, 0]
    assert on_sim(2)[longs("cpu")].device.type == "sim"
    assert torch.tensor([1.0, 2.0], device=SIM).tolist() == [1, 2]
    assert torch.arange(3, device=SIM).t_().unsqueeze_(0).shape == (1, 3)
    assert f"{torch.tensor(1.5, device=SIM):.2f}" == "1.50"


WAITS: dict[str, tuple[list[str], Callable[[Tensor], Any]]] = {
    "item": (["local_scalar_dense"], lambda x: x[0].item()),
    "bool": (["local_scalar_dense"], lambda x: bool(x[0])),
    "tolist": (["download"], lambda x: x.tolist()),
    "cpu": (["download"], lambda x: x.cpu()),
    "nonzero": (["nonzero"], lambda x: x.nonzero()),
    "mask": (["index by mask"], lambda x: x[x > 0]),
    "filled mask": ([], lambda x: x.__setitem__(x > 0, 1.0)),
    "index of the cpu": (["index of the cpu"], lambda x: x[torch.tensor([1])]),
    "eigh": (["linalg_eigh"], lambda x: torch.linalg.eigh(x.diag())),
    "cholesky": (["linalg_check_errors"], lambda x: torch.linalg.cholesky(x.diag())),
    "cholesky_ex": ([], lambda x: torch.linalg.cholesky_ex(x.diag())),
    "upload": (["upload"], lambda x: x + torch.zeros(3).to(SIM)),
    "nothing": ([], lambda x: (x[1:] * 2).topk(1).values.sum()),
}


@pytest.mark.parametrize("name", WAITS)
def test_waits_are_counted_where_they_are_asked_for(name: str) -> None:
    kinds, call = WAITS[name]
    x, before = torch.ones(3).to(SIM), syncs()
    with counted(uploads=True) as waits:
        call(x)
    assert [wait.kind for wait in waits.elements()] == kinds
    assert all(wait.place.startswith(__file__) for wait in waits)
    assert syncs() - before == len([kind for kind in kinds if kind != "upload"])


def test_autocast_casts_as_with_cuda() -> None:
    layer = nn.Linear(3, 3).to(SIM)
    with torch.autocast("sim", torch.bfloat16):
        half = layer(torch.ones(2, 3, device=SIM))
        assert (half.dtype, half.softmax(1).dtype) == (torch.bfloat16, torch.float32)
        with torch.autocast("sim", enabled=False):
            assert layer(torch.ones(2, 3, device=SIM)).dtype == torch.float32
    half.float().sum().backward()
    assert isinstance(layer.weight.grad, SimulatedTensor) and layer.weight.grad.dtype == torch.float32


def test_the_device_draws_from_a_generator_of_its_own() -> None:
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    first = torch.randn(3, device=SIM)
    assert torch.equal(torch.randn(3), expected) and torch.equal(first.cpu(), expected)


def test_events_measure_without_a_wait_until_they_are_read() -> None:
    timer = EventTimer(SIM)
    with counted() as waits:
        timer.start()
        torch.ones(3, device=SIM).sum()
        timer.stop()
    assert not waits
    with counted() as waits:
        assert timer.seconds() == timer.seconds() > 0
    assert waits.total() == 1
