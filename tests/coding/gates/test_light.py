import pytest
import torch

from nid_dist.coding.gates.light import LightGate


def gate(
    grid_shape=(16, 16), channels: int = 3, width: int = 64, experts: int = 100, trained: bool = False
) -> LightGate:
    generator = torch.Generator().manual_seed(0)
    made = LightGate(experts=experts, channels=channels, grid_shape=grid_shape, width=width, generator=generator)
    if trained:
        # At first the biases do not depend on the features.
        torch.nn.init.normal_(made.head.linear.weight, 0, 0.1)
    return made


@pytest.mark.parametrize(
    ("grid_shape", "expected"),
    [
        # 3x3 convolutions 3 to 64, then 64 to 64 until the longer side is 4 or less; norms: two numbers a channel.
        ((4, 4), 1_792 + 128),
        ((8, 8), 1_792 + 128),
        ((16, 16), 1_792 + 36_928 + 2 * 128),
        ((512, 300), 1_792 + 6 * 36_928 + 7 * 128),
    ],
)
def test_number_of_parameters_besides_the_last_layer(grid_shape, expected):
    assert sum(p.numel() for p in gate(grid_shape).stages.parameters()) == expected


@pytest.mark.parametrize(
    ("grid_shape", "features"),
    [((16, 16), 64 * 16 + 3 * 256), ((8, 4), 64 * 8 + 3 * 32), ((512, 20), 64 * 4 + 3 * 256), ((1, 1), 64 + 3)],
)
def test_number_of_features(grid_shape, features):
    assert gate(grid_shape).head.linear.in_features == features


def test_contrast_scales_the_code_and_the_mean_shifts_the_bias():
    made = gate(trained=True).double()
    values = torch.rand(4, 256, 3, dtype=torch.float64)
    values = values - values.mean(1, keepdim=True)
    ids = torch.arange(4)
    first = made(values, ids)
    shift = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    second = made(2 * values + shift, ids)
    # Not exactly twice: the noise level, 0.01 of a contrast of 0.29, is part of the normalisation.
    torch.testing.assert_close(second.logits, 2 * first.logits, rtol=0, atol=5e-3)
    torch.testing.assert_close(second.bias, 2 * first.bias + shift, rtol=0, atol=5e-3)


@pytest.mark.parametrize("grid_shape", [(4, 4), (16, 16), (64, 64)])
def test_first_codes_have_the_signals_contrast(grid_shape):
    values = 0.5 + 0.1 * torch.randn(20, grid_shape[0] * grid_shape[1], 3)
    output = gate(grid_shape, experts=900)(values, torch.arange(20))
    assert 0.03 < output.logits.norm(dim=1).mean() < 0.2
    assert output.logits.std() < 0.2 / 30
    torch.testing.assert_close(output.bias, values.mean(1))


def test_flat_signals_have_small_finite_codes_and_gradients():
    made = gate(trained=True)
    values = torch.full((2, 256, 3), 0.7, requires_grad=True)
    output = made(values, torch.arange(2))
    output.logits.square().sum().backward()
    assert output.logits.abs().max() < 0.1
    torch.testing.assert_close(output.bias, torch.full((2, 3), 0.7), atol=0.1, rtol=0)
    assert torch.isfinite(values.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters())


def test_a_signal_does_not_depend_on_the_others():
    made = gate()
    values = torch.rand(5, 256, 3)
    together = made(values, torch.arange(5)).logits
    alone = made(values[2:3], torch.arange(1)).logits
    torch.testing.assert_close(together[2:3], alone)
