import pytest
import torch
from torch import nn

from nid_dist.coding.gates import make_gate
from nid_dist.coding.gates.pursuit import PursuitGate
from nid_dist.coding.gates.unrolled import UnrolledGate
from nid_dist.config.schema import Gate as GateConfig
from nid_dist.errors import UserError

KINDS = ["light", "conv", "resnet", "codebook"]


def make(
    kind: str, grid_shape=(8, 8), channels: int = 3, experts: int = 12, width: int = 8, seed: int = 0
) -> nn.Module:
    return make_gate(
        GateConfig(kind=kind, width=width),
        experts=experts,
        channels=channels,
        grid_shape=grid_shape,
        signals=10,
        support=4,
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("grid_shape", [(4, 4), (5, 7), (16, 16), (1, 1), (2, 33), (64, 48)])
@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind, grid_shape, channels):
    gate = make(kind, grid_shape, channels)
    values = torch.rand(3, grid_shape[0] * grid_shape[1], channels)
    output = gate(values, torch.tensor([2, 0, 9]))
    assert output.logits.shape == (3, 12) and output.bias.shape == (3, channels)
    assert torch.isfinite(output.logits).all() and torch.isfinite(output.bias).all()


@pytest.mark.parametrize("kind", ["light", "codebook"])
def test_large_grids(kind):
    assert make(kind, (512, 384))(torch.rand(1, 512 * 384, 3), torch.zeros(1, dtype=torch.long)).logits.shape == (1, 12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_signals(kind):
    gate = make(kind)
    output = gate(torch.zeros(0, 64, 3), torch.zeros(0, dtype=torch.long))
    assert output.logits.shape == (0, 12) and output.bias.shape == (0, 3)
    (output.logits.sum() + output.bias.sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in gate.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    gate = make(kind)
    output = gate(torch.rand(10, 64, 3), torch.arange(10))
    (output.logits.square().sum() + output.bias.square().sum()).backward()
    for name, parameter in gate.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize("kind", KINDS)
def test_initial_values_depend_on_the_generator_only(kind):
    first = make(kind, seed=4).state_dict()
    torch.manual_seed(99)
    torch.rand(7)
    second, other = make(kind, seed=4).state_dict(), make(kind, seed=5).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_can_learn_eight_codes(kind):
    gate = make(kind, width=32)
    generator = torch.Generator().manual_seed(7)
    values, ids = torch.rand(8, 64, 3, generator=generator), torch.arange(8)
    codes = torch.randn(8, 12, generator=generator) * 12**-0.5
    codes = codes / codes.norm(dim=1, keepdim=True).clamp_min(1)
    bias = torch.rand(8, 3, generator=generator)
    optimizer = torch.optim.Adam(gate.parameters(), lr=1e-2 if kind == "codebook" else 2e-3)
    error = torch.tensor(1.0)
    for _ in range(300):
        optimizer.zero_grad()
        output = gate(values, ids)
        error = (output.logits - codes).square().mean() + (output.bias - bias).square().mean()
        error.backward()
        optimizer.step()
        if error < 1e-3:
            break
    # The targets' mean square is 0.08 for the codes, and 0.08 for the biases around their mean.
    assert error.item() < 1e-3


@pytest.mark.parametrize("kind", ["light", "conv", "resnet"])
def test_signals_of_another_size_are_refused(kind):
    with pytest.raises(UserError, match="8 x 8 grid"):
        make(kind)(torch.rand(2, 60, 3), torch.arange(2))


def test_gates_of_atoms():
    assert isinstance(make("unrolled"), UnrolledGate) and isinstance(make("pursuit"), PursuitGate)


def test_no_gate():
    with pytest.raises(UserError, match=r"coding\.gate\.kind: found 'none'"):
        make("none")


@pytest.mark.parametrize("kind", ["light", "conv", "resnet", "unrolled", "pursuit"])
def test_a_signal_along_one_axis_is_one_row(kind):
    values, ids = torch.rand(3, 8, 3), torch.arange(3)
    line, row = make(kind, (8,))(values, ids), make(kind, (1, 8))(values, ids)
    assert line.logits.shape == (3, 12) and torch.equal(line.logits, row.logits)


@pytest.mark.parametrize("grid_shape", [(4, 4, 4)])
@pytest.mark.parametrize("kind", ["light", "conv", "resnet", "unrolled", "pursuit"])
def test_only_a_codebook_takes_other_grids_than_images(kind, grid_shape):
    with pytest.raises(ValueError, match=f"the {kind} gate reads rows and columns, not a grid of shape"):
        make(kind, grid_shape)
    output = make("codebook", grid_shape)(torch.rand(3, 64, 3), torch.tensor([2, 0, 9]))
    assert output.logits.shape == (3, 12)


@pytest.mark.parametrize("kind", [*KINDS, "temporal", "pointnet"])
def test_every_gate_with_a_last_layer_takes_a_rank(kind):
    made = make_gate(
        GateConfig(kind=kind, width=8, rank=3),
        experts=50,
        channels=1,
        grid_shape=(8, 8),
        signals=10,
        support=4,
        generator=torch.Generator().manual_seed(0),
    )
    values = torch.rand(20, 64, 6 if kind == "pointnet" else 1)
    logits = made(values, torch.arange(20) % 10).logits
    centred = logits - logits.mean(0)
    # Contrast scales, and the unit ball cuts, a code as a whole.
    assert torch.linalg.matrix_rank(centred) <= 4 and logits.shape == (20, 50)
