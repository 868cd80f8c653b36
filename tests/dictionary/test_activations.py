import math

import pytest
import torch

from nid_dist.dictionary.activations import initialise_linear, make_activation


def initialised(shape: tuple[int, ...], activation: str, first: bool = False, omega: float = 30.0, seed: int = 0):
    weight, bias = torch.empty(shape), torch.empty(shape[:-1])
    generator = torch.Generator().manual_seed(seed)
    initialise_linear(weight, bias, activation=activation, first=first, omega=omega, generator=generator)
    return weight, bias


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", [0.0, 0.0, 1.0]),
        # x * Phi(x) with Phi(1) = 0.841345, Phi(-2) = 0.022750
        ("gelu", [-0.045500, 0.0, 0.841345]),
        ("sine", [math.sin(-6), 0.0, math.sin(3)]),
        ("tanh", [-0.964028, 0.0, 0.761594]),
    ],
)
def test_values(name, expected):
    found = make_activation(name, 3.0)(torch.tensor([-2.0, 0.0, 1.0]))
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=0)


def test_unknown_names():
    with pytest.raises(ValueError, match="swish"):
        make_activation("swish", 1.0)
    with pytest.raises(ValueError, match="swish"):
        initialised((2, 3), "swish")


@pytest.mark.parametrize(
    ("activation", "first", "omega", "bound"),
    [("sine", True, 30.0, 1 / 200), ("sine", False, 30.0, math.sqrt(6 / 200) / 30), ("sine", False, 5.0, 0.034641016)],
)
def test_sine_is_uniform(activation, first, omega, bound):
    weight, _ = initialised((300, 200), activation, first, omega)
    assert weight.abs().max().item() <= bound
    assert weight.abs().max().item() > 0.999 * bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize(("activation", "variance"), [("relu", 2 / 200), ("gelu", 2 / 200), ("tanh", 1 / 200)])
def test_normal_variance_and_bias(activation, variance):
    weight, bias = initialised((4, 300, 200), activation)
    assert weight.var().item() == pytest.approx(variance, rel=0.03)
    # Kurtosis 3 tells a normal from a uniform law (1.8).
    assert (weight.pow(4).mean() / weight.var() ** 2).item() == pytest.approx(3, abs=0.1)
    assert bias.abs().max().item() <= 200**-0.5
    assert bias.std().item() == pytest.approx((200 * 3) ** -0.5, rel=0.1)


# What six layers of width 512 leave of the mean square of activations, from theory: sine keeps 1/2 (Sitzmann et al.
# 2020, supplement), ReLU keeps it, GELU and tanh lose some at each layer.
@pytest.mark.parametrize(
    ("activation", "low", "high"), [("sine", 0.45, 0.55), ("relu", 0.7, 1.4), ("gelu", 0.35, 0.7), ("tanh", 0.05, 0.3)]
)
def test_mean_square_through_six_layers(activation, low, high):
    # Of another seed than every layer: inputs equal to weights would be correlated with them.
    hidden = torch.randn(400, 512, generator=torch.Generator().manual_seed(100))
    act = make_activation(activation, 30.0)
    for layer in range(6):
        weight, bias = initialised((512, 512), activation, first=activation == "sine" and layer == 0, seed=layer)
        hidden = act(hidden @ weight.t() + bias)
    assert low < hidden.square().mean().item() < high


def test_batched_layers_use_the_last_axis():
    weight, bias = initialised((5, 40, 900), "relu")
    assert bias.shape == (5, 40)
    assert weight.var().item() == pytest.approx(2 / 900, rel=0.03)
    assert not torch.equal(weight[0], weight[1])


def test_in_place_on_parameters_from_the_generator_only():
    layers = [torch.nn.Linear(6, 4) for _ in range(2)]
    for layer in layers:
        torch.manual_seed(id(layer) % 1000)
        generator = torch.Generator().manual_seed(7)
        initialise_linear(layer.weight, layer.bias, activation="gelu", first=True, omega=1.0, generator=generator)
    assert torch.equal(layers[0].weight, layers[1].weight) and torch.equal(layers[0].bias, layers[1].bias)
    assert layers[0].weight.requires_grad and layers[0].weight.is_leaf


def test_without_bias():
    weight = torch.empty(3, 4)
    initialise_linear(
        weight, None, activation="tanh", first=False, omega=1.0, generator=torch.Generator().manual_seed(0)
    )
    assert torch.isfinite(weight).all()
