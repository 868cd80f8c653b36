import pytest
import torch

from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.dictionary.trunk import Trunk
from tests.dictionary import oracle


@pytest.mark.parametrize("output", ["linear", "activated"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "sine", "tanh"])
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_features_equal_the_oracle(layers, activation, output):
    dictionary = oracle.make_dictionary(shared_layers=layers, activation=activation, trunk_output=output, omega=3.0)
    coords = oracle.random_coords(None)
    torch.testing.assert_close(dictionary.trunk(coords), oracle.features(dictionary, coords))
    stacked = torch.stack([coords, -coords])
    torch.testing.assert_close(dictionary.trunk(stacked)[1], oracle.features(dictionary, -coords))


@pytest.mark.parametrize(("layers", "width"), [(0, 12), (1, 5), (2, 5)])
def test_width_of_the_features(layers, width):
    config = DictionaryConfig(encoding=Encoding(kind="fourier", features=6), width=5, shared_layers=layers)
    trunk = Trunk(config, 3, torch.Generator().manual_seed(0))
    assert trunk.out_dim == width
    assert trunk(torch.zeros(4, 3)).shape == (4, width)


def test_all_values_come_from_the_generator():
    config = DictionaryConfig(encoding=Encoding(kind="fourier", features=6), width=5)
    made = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        made.append(Trunk(config, 2, torch.Generator().manual_seed(7)).state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
