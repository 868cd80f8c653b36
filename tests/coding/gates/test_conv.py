import pytest
import torch

from nid_dist.coding.gates.conv import ConvGate


def gate(grid_shape: tuple[int, int] = (8, 8), channels: int = 3, width: int = 16, experts: int = 20) -> ConvGate:
    generator = torch.Generator().manual_seed(0)
    return ConvGate(experts=experts, channels=channels, grid_shape=grid_shape, width=width, generator=generator)


def test_number_of_parameters_of_the_reference():
    # 5*5*3*256 + 256, 5*5*256*256 + 256, 256 * (1024 + 3) + 1027
    reference = gate(width=256, experts=1024)
    assert sum(p.numel() for p in reference.parameters()) == 19_456 + 1_638_656 + 263_939


def test_mean_over_the_grid_by_hand():
    # Kernels that copy: relu twice, then the mean over the pixels, times the head's weight.
    made = gate((3, 4), 1, 1, 1)
    with torch.no_grad():
        for layer in (made.first, made.second):
            layer.weight.zero_()
            layer.weight[0, 0, 2, 2] = 1
            layer.bias.zero_()
        made.head.linear.weight[0] = 2
    values = torch.arange(12.0).reshape(1, 12, 1)
    output = made(values, torch.zeros(1, dtype=torch.long))
    assert output.logits.item() == pytest.approx(2 * 5.5)
    assert output.bias.item() == 0.5


@pytest.mark.parametrize("grid_shape", [(8, 8), (32, 32)])
def test_codes_are_of_unit_norm_at_first(grid_shape):
    values = torch.rand(10, grid_shape[0] * grid_shape[1], 3)
    norms = gate(grid_shape, width=64, experts=400)(values, torch.arange(10)).logits.norm(dim=1)
    assert norms.min() > 0.5 and norms.max() < 2
