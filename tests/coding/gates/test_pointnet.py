"""The pointnet gate: neither the order nor the number of points is built in."""

import pytest
import torch

from nid_dist.coding.gates.pointnet import PointNetGate
from nid_dist.errors import UserError


def gate(seed: int = 0) -> PointNetGate:
    return PointNetGate(experts=40, channels=1, width=8, generator=torch.Generator().manual_seed(seed))


IDS = torch.zeros(3, dtype=torch.long)


def test_order_does_not_matter_and_any_number_will_do() -> None:
    cloud = torch.randn(3, 50, 6)
    output = gate()(cloud, IDS)
    assert output.logits.shape == (3, 40) and output.bias.shape == (3, 1)
    shuffled = gate()(cloud[:, torch.randperm(50)], IDS)
    torch.testing.assert_close(shuffled.logits, output.logits, rtol=1e-4, atol=1e-6)
    # Each point twice is the same cloud.
    torch.testing.assert_close(gate()(cloud.repeat(1, 2, 1), IDS).logits, output.logits, rtol=1e-4, atol=1e-6)
    assert gate()(cloud[:, :1], IDS).logits.isfinite().all()


def test_seeds_and_gradients() -> None:
    cloud = torch.randn(3, 50, 6)
    assert torch.equal(gate()(cloud, IDS).logits, gate()(cloud, IDS).logits)
    assert not torch.equal(gate(1)(cloud, IDS).logits, gate()(cloud, IDS).logits)
    made = gate()
    output = made(cloud, IDS)
    (output.logits.square().sum() + output.bias.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())
    norms = output.logits.norm(dim=1)
    assert norms.min() > 0.3 and norms.max() < 3


def test_it_learns_codes_of_shapes() -> None:
    """The radius of a sphere, which a code of one coefficient holds."""
    made, generator = gate(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    for _ in range(80):
        radius = 0.3 + 0.6 * torch.rand(16, generator=generator)
        cloud = torch.nn.functional.normalize(torch.randn(16, 64, 3, generator=generator), dim=2)
        output = made(torch.cat([cloud * radius[:, None, None], cloud], 2), torch.zeros(16, dtype=torch.long))
        loss = (output.logits[:, 7] - radius).square().mean() + output.logits[:, :7].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01


def test_values_of_f_are_refused() -> None:
    with pytest.raises(UserError, match="clouds of 50 points with 1 columns"):
        gate()(torch.zeros(3, 50, 1), IDS)
    with pytest.raises(UserError, match="clouds of 0 points"):
        gate()(torch.zeros(3, 0, 6), IDS)
