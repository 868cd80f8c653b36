"""Evaluating experts on the device: values and gradients of the CPU, and nothing that depends on what is in a code."""

import pytest
import torch
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.gates.codebook import CodebookGate
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.errors import UserError
from tests.device.simulated import counted
from tests.dictionary import oracle
from tests.dictionary.test_evaluation import CODES, HUGE, TINY, Strategy

SIM = torch.device("sim")
CODES = CODES | {
    # 3 signals of 2 coefficients: fewer than the 7 experts.
    "fewer coefficients than experts": lambda: oracle.random_code(7, 2),
    "nothing in it": lambda: Code(torch.zeros(3, 2).double(), torch.zeros(3, 2).double(), torch.zeros(3, 2).long()),
    "no signals": lambda: oracle.random_code(7, 2).rows(slice(0, 0)),
}


def on(device: torch.device, tensor: Tensor) -> Tensor:
    return tensor.detach().to(device).requires_grad_(tensor.requires_grad)


def results(
    dictionary: Dictionary, strategy: str | int, code: Code, coords: Tensor, weights: Tensor, device: torch.device
) -> tuple[list[Tensor], int]:
    """Values and gradients, and how often somebody waited for them."""
    dictionary.to(device)
    indices = None if code.indices is None else code.indices.to(device)
    values, bias, coords, weights = (on(device, x) for x in (code.values, code.bias, coords, weights))
    leaves = [x for x in (values, coords, *dictionary.parameters()) if x.requires_grad]
    with counted(uploads=True) as waits:
        sums = Strategy(dictionary, strategy)(Code(values, bias, indices), coords)
        grads = torch.autograd.grad((sums * weights).sum(), leaves, allow_unused=True, materialize_grads=True)
    return [x.detach().cpu() for x in (sums, *grads)], sum(waits.values())


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("per_signal", [False, True], ids=["shared", "per signal"])
@pytest.mark.parametrize(("private", "strategy"), [(1, "merge"), (1, TINY), (1, HUGE), (2, TINY), (3, HUGE)])
def test_evaluation_waits_for_nothing(private: int, strategy: str | int, per_signal: bool, code: str) -> None:
    dictionary, made = oracle.make_dictionary(private_layers=private), CODES[code]()
    coords = oracle.random_coords(made.signals if per_signal else None)
    weights = torch.randn(made.signals, 5, 2, dtype=torch.float64)
    here, _ = results(dictionary, strategy, made, coords, weights, torch.device("cpu"))
    there, waits = results(dictionary, strategy, made, coords, weights, SIM)
    assert not waits
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [None, 3])
def test_a_training_does_not_wait_for_its_codebook_and_a_user_is_told(rank: int | None) -> None:
    book = CodebookGate(experts=9, channels=1, signals=4, generator=torch.Generator().manual_seed(0), rank=rank)
    book.to(SIM)
    values, ids = torch.zeros(2, 5, 1, device=SIM), torch.tensor([3, 1], device=SIM)
    with counted() as waits:
        book(values, ids).logits.square().sum().backward()
    assert not waits
    with pytest.raises(UserError, match="asked for signal 4"):
        book.require_known(ids + 1)
