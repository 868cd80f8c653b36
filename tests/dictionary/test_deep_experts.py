import math

import pytest
import torch

from nid_dist.dictionary.deep_experts import DeepExperts


def experts(layers: int = 2, activation: str = "relu", first: bool = True, width: int = 1) -> DeepExperts:
    generator = torch.Generator().manual_seed(0)
    return DeepExperts(2, 1, width, layers, 2, activation, 30.0, first=first, generator=generator)


def test_two_layers_by_hand():
    # b_0 = relu(x) - relu(-x) + 5 = x + 5; b_1 = 2 relu(x - 1).
    made = experts()
    with torch.no_grad():
        made.weights[0].copy_(torch.tensor([[[1.0], [-1.0]], [[1.0], [0.0]]]))
        made.offsets[0].copy_(torch.tensor([[0.0, 0.0], [-1.0, 0.0]]))
        made.weights[1].copy_(torch.tensor([[[1.0, -1.0]], [[2.0, 0.0]]]))
        made.offsets[1].copy_(torch.tensor([[5.0], [0.0]]))
    x = torch.tensor([[-2.0], [3.0]])
    assert made.evaluate(x, made.tensors)[..., 0].tolist() == [[3, 8], [0, 4]]
    per_signal = torch.stack([x, x, 2 * x])
    which = [tensor[[1, 0, 1]] for tensor in made.tensors]
    assert made.evaluate_per_signal(per_signal, which)[..., 0].tolist() == [[0, 4], [3, 8], [0, 10]]


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_shapes_and_numbers_kept_in_memory(layers):
    made = experts(layers)
    assert [tuple(w.shape) for w in made.weights] == [(2, 2, 1)] + [(2, 2, 2)] * (layers - 2) + [(2, 1, 2)]
    assert made.floats_per_coordinate == 2 * (2 * (layers - 1) + 1)


@pytest.mark.parametrize(("first", "bound"), [(True, 1 / 24), (False, math.sqrt(6 / 24) / 30)])
def test_sine_initialisation_knows_whether_it_is_the_networks_first_layer(first, bound):
    made = DeepExperts(50, 3, 24, 2, 8, "sine", 30.0, first=first, generator=torch.Generator().manual_seed(0))
    assert 0.9 * bound < made.weights[0].abs().max() <= bound
