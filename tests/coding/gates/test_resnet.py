import pytest
import torch

from nid_dist.coding.gates.resnet import ResidualBlock, ResNetGate


def gate(grid_shape=(8, 8), channels: int = 3, width: int = 16, experts: int = 20, seed: int = 0) -> ResNetGate:
    generator = torch.Generator().manual_seed(seed)
    return ResNetGate(experts=experts, channels=channels, grid_shape=grid_shape, width=width, generator=generator)


def test_number_of_parameters_of_the_reference():
    # 3x3 to 128: 9*3*128 + 128; 3x3 to 256: 9*128*256 + 256; eight 5x5: 8 * (25*256*256 + 256); 1x1: 256*256 + 256;
    # all pixels to one: 16*16 + 1; last: 256 * (1024 + 3) + 1027.
    reference = gate((16, 16), width=256, experts=1024)
    expected = 3_584 + 295_168 + 8 * 1_638_656 + 65_792 + 257 + 263_939
    assert sum(p.numel() for p in reference.parameters()) == expected


def test_residual_block_by_hand():
    # first: -x, clipped to 0 where x > 0; second: 3 * hidden - 1, clipped; then the input is added and clipped.
    block = ResidualBlock(1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer, factor, bias in ((block.first, -1.0, 0.0), (block.second, 3.0, -1.0)):
            layer.weight.zero_()
            layer.weight[0, 0, 2, 2] = factor
            layer.bias.fill_(bias)
    found = block(torch.tensor([[[[2.0, -1.0, -0.4]]]]))
    torch.testing.assert_close(found, torch.tensor([[[[2.0, 1.0, 0.0]]]]))


@pytest.mark.parametrize("seed", range(8))
def test_pooled_channels_are_alive_at_first(seed):
    # Weights of mean zero over the pixels would silence all channels for every other seed.
    norms = gate(seed=seed, experts=400)(torch.rand(10, 64, 3), torch.arange(10)).logits.norm(dim=1)
    assert norms.min() > 0.1 and norms.max() < 4
