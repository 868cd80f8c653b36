"""Codes as a function of time."""

import torch

from nid_dist.coding.gates import make_gate
from nid_dist.coding.gates.temporal import TemporalGate
from nid_dist.config.schema import Gate


def made(signals: int = 9, seed: int = 0) -> TemporalGate:
    gate = make_gate(
        Gate(kind="temporal", width=16, harmonics=4),
        experts=6,
        channels=3,
        grid_shape=(5, 4),
        signals=signals,
        support=2,
        generator=torch.Generator().manual_seed(seed),
    )
    assert isinstance(gate, TemporalGate)
    return gate


def test_shapes_and_seeds() -> None:
    ids = torch.tensor([0, 4, 8])
    first, second = (made()(torch.zeros(3, 20, 3), ids) for _ in range(2))
    assert first.logits.shape == (3, 6) and first.bias.shape == (3, 3)
    torch.testing.assert_close(first.logits, second.logits, rtol=0, atol=0)
    assert not torch.equal(first.logits, made(seed=1)(torch.zeros(3, 20, 3), ids).logits)


def test_frames_are_where_their_times_are() -> None:
    gate = made(signals=4)
    gate.place(torch.tensor([10.0, 11.0, 13.0, 20.0]))
    torch.testing.assert_close(gate.times, torch.tensor([-1.0, -0.8, -0.4, 1.0]))
    torch.testing.assert_close(
        gate(torch.zeros(1, 20, 3), torch.tensor([2])).logits, gate.at(torch.tensor([-0.4])).logits
    )


def test_one_frame() -> None:
    gate = made(signals=1)
    gate.place(torch.tensor([3.0]))
    assert gate.times.tolist() == [0.0]


def test_it_is_smooth_and_does_not_look() -> None:
    gate = made()
    ids = torch.tensor([3])
    torch.testing.assert_close(gate(torch.zeros(1, 20, 3), ids).logits, gate(torch.ones(1, 20, 3), ids).logits)
    near, nearer = (
        (gate.at(torch.tensor([0.1 + step])).logits - gate.at(torch.tensor([0.1])).logits).norm()
        for step in (1e-2, 1e-3)
    )
    assert nearer < 0.2 * near


def test_it_learns_a_course() -> None:
    """All parameters have a gradient, and a wave of two periods is learned."""
    gate = made(signals=40)
    optimizer = torch.optim.Adam(gate.parameters(), lr=1e-2)
    target = torch.sin(2 * torch.pi * gate.times)
    for _ in range(200):
        optimizer.zero_grad()
        output = gate(torch.zeros(40, 20, 3), torch.arange(40))
        loss = (output.logits[:, 2] - target).square().mean() + output.bias.square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 1e-3
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in gate.parameters())
