import pytest
import torch

from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.principal_features import principal_features


def signals(count: int, coords: torch.Tensor, d: int) -> torch.Tensor:
    """Smooth random functions: the sums of a few waves."""
    generator = torch.Generator().manual_seed(1)
    waves = torch.randn(count, d, 6, coords.shape[1], generator=generator) * 3
    phases = 6 * torch.rand(count, d, 6, 1, generator=generator)
    return 0.5 + 0.1 * torch.sin(waves @ coords.t() + phases).sum(2).transpose(1, 2)


@pytest.mark.parametrize("side", [10, 20], ids=["dense inputs", "sparse inputs"])
@pytest.mark.parametrize("d", [1, 2])
def test_they_hold_as_much_as_so_many_can(d, side):
    """Against the best approximation of rank 12, from a singular value decomposition."""
    coords = coordinate_grid((side, side))
    encoding = Encoding(kind="spline", features=side * side)
    config = DictionaryConfig(experts=20, width=12, encoding=encoding, shared_layers=1)
    dictionary = Dictionary(config, 2, d, torch.Generator().manual_seed(0))
    sample = signals(60, coords, d)
    assert principal_features(dictionary, coords, sample)
    features = dictionary.trunk(coords).detach().double()
    assert features.mean(0).abs().max() < 1e-3
    assert torch.allclose(features.t() @ features / len(coords), torch.eye(12, dtype=torch.double), atol=1e-3)
    centred = (sample - sample.mean(1, keepdim=True)).double().transpose(1, 2).flatten(0, 1)
    rest = centred - centred @ features @ features.t() / len(coords)
    best = torch.linalg.svdvals(centred)[12:].square().sum()
    assert rest.square().sum() == pytest.approx(best.item(), rel=1e-3)


def test_few_signals():
    coords = coordinate_grid((8, 8))
    config = DictionaryConfig(experts=20, width=16, encoding=Encoding(kind="cosine", features=40), shared_layers=1)
    dictionary = Dictionary(config, 2, 1, torch.Generator().manual_seed(0))
    assert principal_features(dictionary, coords, signals(3, coords, 1))
    features = dictionary.trunk(coords).detach().double()
    assert torch.allclose(features.t() @ features / 64, torch.eye(16, dtype=torch.double), atol=1e-3)


def test_what_the_signals_lack_is_where_the_inputs_vary_most():
    """One signal, twice: the other features span the inputs' principal directions, from a dense decomposition."""
    coords = coordinate_grid((20, 20))
    config = DictionaryConfig(experts=20, width=10, encoding=Encoding(kind="spline", features=400), shared_layers=1)
    dictionary = Dictionary(config, 2, 1, torch.Generator().manual_seed(0))
    sample = signals(1, coords, 1).expand(2, -1, -1)
    assert principal_features(dictionary, coords, sample)
    features = dictionary.trunk(coords).detach().double()
    assert torch.allclose(features.t() @ features / 400, torch.eye(10, dtype=torch.double), atol=1e-3)
    wave = (sample[0, :, 0] - sample.mean()).double()
    torch.testing.assert_close(features @ (features.t() @ wave) / 400, wave, rtol=0, atol=1e-2 * wave.std().item())
    inputs = dictionary.trunk.hidden(coords).double()
    centred = inputs - inputs.mean(0)
    variances = torch.linalg.svdvals(centred).square()
    kept = (features.t() @ centred / 20).square().sum()
    assert kept > 0.95 * variances[:9].sum()


def test_features_without_a_choice_stay():
    coords = coordinate_grid((8, 8))
    for options in ({"width": 40}, {"width": 8, "shared_layers": 0}, {"width": 8, "trunk_output": "activated"}):
        config = DictionaryConfig(**{"experts": 20, "shared_layers": 1, "encoding": Encoding(features=30), **options})
        dictionary = Dictionary(config, 2, 1, torch.Generator().manual_seed(0))
        before = dictionary.trunk(coords).detach()
        assert not principal_features(dictionary, coords, signals(9, coords, 1))
        assert torch.equal(dictionary.trunk(coords).detach(), before)
