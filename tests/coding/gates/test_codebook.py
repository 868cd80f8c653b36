import pytest
import torch

from nid_dist.coding.gates.codebook import CodebookGate
from nid_dist.errors import UserError

VALUES = torch.zeros(3, 4, 2)


def gate(signals: int = 6, experts: int = 5) -> CodebookGate:
    return CodebookGate(experts=experts, channels=2, signals=signals, generator=torch.Generator().manual_seed(0))


def with_rows(*rows: list[float]) -> CodebookGate:
    book = gate(len(rows), len(rows[0]))
    with torch.no_grad():
        book.codes.copy_(torch.tensor(rows))
    return book


def test_codes_are_projected_on_the_unit_ball():
    book = with_rows([3.0, 4.0], [0.3, 0.4], [0.0, 0.0])
    found = book(VALUES, torch.arange(3)).logits
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    # Looking up does not write.
    assert torch.equal(book.codes.detach(), torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))


def test_gradient_of_the_projection():
    # The row (3, 4) is outside, direction (0.6, 0.8). Gradient (-1, 0) has the radial part -0.6, which would pull it
    # further out, and loses it: (-1, 0) + 0.6 * (0.6, 0.8). Gradient (1, 0) pulls it in, and passes. Inside, all pass.
    book = with_rows([3.0, 4.0], [3.0, 4.0], [0.3, 0.4])
    output = book(VALUES, torch.arange(3)).logits
    output.backward(torch.tensor([[-1.0, 0], [1.0, 0], [-1.0, 0]]))
    torch.testing.assert_close(book.codes.grad, torch.tensor([[-0.64, 0.48], [1.0, 0], [-1.0, 0]]))


def test_a_code_outside_the_ball_can_shrink_again():
    book = with_rows([3.0, 4.0])
    optimizer = torch.optim.Adam(book.parameters(), lr=0.1)
    target = torch.tensor([[-0.1, 0.2]])
    for _ in range(200):
        optimizer.zero_grad()
        (book(VALUES[:1], torch.zeros(1, dtype=torch.long)).logits - target).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(book.codes.detach(), target, atol=1e-2, rtol=0)


def test_two_lookups_before_one_backward():
    book = gate()
    ids = torch.tensor([0, 1, 1])
    total = book(VALUES, ids).logits.square().sum() + book(VALUES, ids.flip(0)).logits.square().sum()
    total.backward()
    assert torch.isfinite(book.codes.grad).all()


def test_only_seen_rows_are_trained():
    book = gate()
    before = [p.detach().clone() for p in book.parameters()]
    optimizer = torch.optim.Adam(book.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        output = book(VALUES, torch.tensor([1, 4, 4]))
        ((output.logits - 1).square().sum() + output.bias.square().sum()).backward()
        optimizer.step()
    for old, new in zip(before, book.parameters(), strict=True):
        changed = (old != new.detach()).any(1)
        assert changed.tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize(("ids", "wrong"), [([0, 6, 1], 6), ([-1, 0, 1], -1)])
def test_unknown_signals_are_refused(ids, wrong):
    with pytest.raises(UserError, match=f"asked for signal {wrong}, expected one of the 6 training signals"):
        gate()(VALUES, torch.tensor(ids))


def test_number_of_parameters():
    assert sum(p.numel() for p in gate(6, 5).parameters()) == 6 * (5 + 2)


def test_codes_of_a_low_rank_start_like_others_and_learn():
    book = CodebookGate(experts=900, channels=2, signals=40, generator=torch.Generator().manual_seed(0), rank=30)
    assert sum(p.numel() for p in book.parameters()) == 40 * (30 + 2) + 900 * 31
    codes = book(torch.zeros(40, 4, 2), torch.arange(40)).logits
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(40), atol=0.4, rtol=0)
    assert torch.linalg.matrix_rank(codes) == 30
    codes.square().sum().backward()
    assert book.codes.grad.any(1).all() and book.linear.weight.grad.any()
