import pytest
import scipy.fft
import torch

from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.dictionary import initialization
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.initialization import initialise_heads, whiten_features


def make(m: int = 2, d: int = 1, experts: int = 60, width: int = 40, scale: float = 6.0, **options) -> Dictionary:
    encoding = Encoding(kind="fourier", features=40, scale=scale)
    config = DictionaryConfig(experts=experts, width=width, encoding=encoding, shared_layers=2, **options)
    return Dictionary(config, m, d, torch.Generator().manual_seed(0))


def signals(count: int, coords: torch.Tensor, d: int) -> torch.Tensor:
    # Smooth random functions: the sums of a few waves.
    generator = torch.Generator().manual_seed(1)
    waves = torch.randn(count, d, 6, coords.shape[1], generator=generator) * 3
    phases = 6 * torch.rand(count, d, 6, 1, generator=generator)
    return 0.5 + 0.1 * torch.sin(waves @ coords.t() + phases).sum(2).transpose(1, 2)


def atoms(dictionary: Dictionary, coords: torch.Tensor) -> torch.Tensor:
    """In coordinates whose inner product is the mean over the grid and the sum over channels."""
    return dictionary.atoms(coords).detach().double().flatten(1) * len(coords) ** -0.5


def covariance(x: torch.Tensor) -> torch.Tensor:
    centred = x.double() - x.double().mean(0)
    return centred.t() @ centred / len(x)


@pytest.mark.parametrize("activation", ["relu", "gelu", "sine", "tanh"])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_whitened_features_are_orthonormal(m, activation):
    coords = 2 * torch.rand(500, m, generator=torch.Generator().manual_seed(3)) - 1
    dictionary = make(m, width=16, activation=activation)
    whiten_features(dictionary, coords)
    features = dictionary.trunk(coords).detach()
    torch.testing.assert_close(covariance(features), torch.eye(16).double(), atol=2e-3, rtol=0)
    assert features.mean(0).abs().max() < 1e-3


def test_whitening_where_the_rank_is_smaller():
    # 9 coordinates: the centred features have rank 8. Of the rest nothing may be blown up.
    coords = coordinate_grid((3, 3))
    dictionary = make(width=16)
    whiten_features(dictionary, coords)
    values = torch.linalg.eigvalsh(covariance(dictionary.trunk(coords).detach()))
    torch.testing.assert_close(values[-8:], torch.ones(8).double(), atol=2e-3, rtol=0)
    assert values[:-8].abs().max() < 1e-3
    assert torch.isfinite(dictionary.trunk(coordinate_grid((50, 50)))).all()


@pytest.mark.parametrize("options", [{"trunk_output": "activated"}, {"shared_layers": 0}])
def test_whitening_leaves_a_trunk_without_linear_output_alone(options):
    config = DictionaryConfig(encoding=Encoding(features=8), width=8, **options)
    dictionary = Dictionary(config, 2, 1, torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in dictionary.state_dict().items()}
    whiten_features(dictionary, coordinate_grid((8, 8)))
    assert all(torch.equal(value, before[name]) for name, value in dictionary.state_dict().items())


@pytest.mark.parametrize(("shape", "d"), [((6, 6), 1), ((8, 4), 1), ((30,), 1), ((3, 4, 3), 1), ((5, 5), 3)])
def test_cosines_are_the_dct_basis_on_a_lattice_that_the_features_span(shape, d):
    coords = coordinate_grid(shape)
    count = len(coords) - 1
    dictionary = make(len(shape), d, experts=2 * d * (count + 1), width=2 * count, scale=4.0)
    whiten_features(dictionary, coords)
    initialise_heads(dictionary, coords, signals(20, coords, d), "cosine", torch.Generator().manual_seed(0))
    found = atoms(dictionary, coords)[: d * count]
    torch.testing.assert_close(found @ found.t(), torch.eye(d * count).double(), atol=5e-3, rtol=0)
    # Orthonormal columns of SciPy's transform, the constant left out. Each wave comes once per channel axis.
    delta = torch.eye(count + 1).double().reshape(count + 1, *shape).numpy()
    basis = torch.from_numpy(scipy.fft.idctn(delta, axes=range(1, len(shape) + 1), norm="ortho")).flatten(1)[1:]
    energy = torch.stack(
        [(found.unflatten(1, (-1, d)) * basis[q, :, None]).sum(1).square().sum(1) for q in range(count)]
    )
    assert energy.max(0).values.min() > 0.99
    assert energy.argmax(0).bincount(minlength=count).tolist() == [d] * count


def test_the_first_cosines_have_the_lowest_frequencies():
    coords = coordinate_grid((8, 8))
    dictionary = make(experts=40, width=60, scale=4.0)
    whiten_features(dictionary, coords)
    initialise_heads(dictionary, coords, signals(20, coords, 1), "cosine", torch.Generator().manual_seed(0))
    x, y = (torch.cos(0.5 * torch.pi * (axis + 1)).double() * (2 / 64) ** 0.5 for axis in coords.t())
    first = atoms(dictionary, coords)[:2]
    # The features span 60 of 63 dimensions.
    assert abs(first[0] @ y) > 0.99 and abs(first[1] @ x) > 0.99


@pytest.mark.parametrize("basis", ["cosine", "principal"])
def test_all_atoms_have_unit_norm_mean_zero_and_the_basis_is_orthonormal(basis):
    coords = coordinate_grid((12, 12))
    dictionary = make(d=3, experts=64)
    whiten_features(dictionary, coords)
    initialise_heads(dictionary, coords, signals(100, coords, 3), basis, torch.Generator().manual_seed(0))
    found = atoms(dictionary, coords)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(64).double(), atol=1e-3, rtol=0)
    assert dictionary.atoms(coords).mean(1).abs().max() < 1e-3
    chosen = found[:48]
    torch.testing.assert_close(chosen @ chosen.t(), torch.eye(48).double(), atol=5e-3, rtol=0)
    assert torch.linalg.matrix_rank(found, rtol=1e-3) == 64


def test_principal_components_span_signals_of_low_rank_and_their_mean():
    # Signals of rank 3 with a large common part, made from the trunk's own features: 3 atoms represent them exactly.
    coords = coordinate_grid((10, 10))
    dictionary = make(d=2, experts=8)
    whiten_features(dictionary, coords)
    phi = dictionary.trunk(coords).detach()
    generator = torch.Generator().manual_seed(2)
    parts = torch.einsum("ch,rdh->rcd", phi, torch.randn(3, 2, 40, generator=generator))
    weights = torch.randn(30, 3, generator=generator) * torch.tensor([0.1, 1, 1]) + torch.tensor([5.0, 0, 0])
    sample = torch.einsum("sr,rcd->scd", weights, parts)
    initialise_heads(dictionary, coords, sample, "principal", generator)
    centred = ((sample - sample.mean(1, keepdim=True)).double() * 0.1).flatten(1)
    found = atoms(dictionary, coords)[:3]
    rest = centred - centred @ found.t() @ found
    assert rest.norm() < 1e-3 * centred.norm()


@pytest.mark.parametrize("basis", ["cosine", "principal"])
@pytest.mark.parametrize(
    "case",
    [
        "usual",
        "flat",
        "one signal",
        "one flat signal",
        "few experts",
        "many experts",
        "one expert",
        "activated",
        "sparse",
    ],
)
@pytest.mark.parametrize("m", [1, 2, 3])
def test_atoms_are_finite_and_of_full_rank(m, case, basis):
    shape = {1: (64,), 2: (8, 8), 3: (4, 4, 4)}[m]
    coords = coordinate_grid(shape)
    if case == "sparse":
        coords = 2 * torch.rand(50, m, generator=torch.Generator().manual_seed(5)) - 1
    experts = {"few experts": 10, "many experts": 300, "one expert": 1}.get(case, 60)
    dictionary = make(m, 1, experts=experts, trunk_output="activated" if case == "activated" else "linear")
    whiten_features(dictionary, coords)
    sample = signals(1 if "one" in case else 40, coords, 1)
    if "flat" in case:
        sample = torch.full_like(sample, 0.3)
    initialise_heads(dictionary, coords, sample, basis, torch.Generator().manual_seed(0))
    found = atoms(dictionary, coords)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.norm(dim=1), torch.ones(experts).double(), atol=5e-3, rtol=0)
    phi = dictionary.trunk(coords).detach().double()
    values = torch.linalg.eigvalsh(covariance(phi))
    span = int((values > 2e-6 * values[-1]).sum())
    assert torch.linalg.matrix_rank(found, rtol=1e-6) >= min(experts, span, 12)


@pytest.mark.parametrize("activation", ["relu", "sine", "tanh", "gelu"])
def test_every_trunk(activation):
    coords = coordinate_grid((16, 16))
    dictionary = make(d=3, experts=200, activation=activation)
    whiten_features(dictionary, coords)
    initialise_heads(dictionary, coords, signals(50, coords, 3), "cosine", torch.Generator().manual_seed(0))
    found = atoms(dictionary, coords)
    singular = torch.linalg.svdvals(found)
    # 120 dimensions, 3 x 40. The more equal the singular values, the better the conditioning.
    assert singular[119] > 0.01 * singular[0]


def test_a_single_coordinate_changes_nothing():
    dictionary, coords = make(), torch.zeros(1, 2)
    before = {name: value.clone() for name, value in dictionary.state_dict().items()}
    whiten_features(dictionary, coords)
    for basis in ("cosine", "principal"):
        initialise_heads(dictionary, coords, torch.rand(5, 1, 1), basis, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in dictionary.state_dict().items())


def test_draws_come_from_the_generator_only():
    coords, made = coordinate_grid((8, 8)), []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        dictionary = make()
        whiten_features(dictionary, coords)
        initialise_heads(dictionary, coords, signals(9, coords, 1), "cosine", torch.Generator().manual_seed(4))
        made.append(dictionary.experts.rows.detach())
    assert torch.equal(*made)


@pytest.mark.parametrize("flat", [1, 3], ids=["all signals flat", "some"])
def test_values_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch: pytest.MonkeyPatch, flat: int) -> None:
    coords, made = coordinate_grid((8, 8)), []
    sample = signals(9, coords, 1)
    sample[::flat] = 0.3
    for floats in (2**24, 1):  # at least 16 rows of noise, and one piece, at a time
        monkeypatch.setattr(initialization, "_FLOATS", floats)
        dictionary = make(experts=300)
        whiten_features(dictionary, coords)
        initialise_heads(dictionary, coords, sample, "principal", torch.Generator().manual_seed(4))
        made.append(dictionary.experts.rows.detach())
    torch.testing.assert_close(*made, rtol=1e-5, atol=1e-5)
