import pytest
import torch

from nid_dist.code import Code
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.dictionary import dictionary as module
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.evaluation import evaluate_then_combine
from nid_dist.parallel.exchange.exchange import LocalExchange
from tests.dictionary import oracle


@pytest.mark.parametrize("strategy", ["auto", "merge", "combine"])
@pytest.mark.parametrize("signals", [None, 3], ids=["shared", "per signal"])
@pytest.mark.parametrize("private", [1, 2])
def test_values_equal_the_oracle(private, signals, strategy):
    if private == 2 and strategy == "merge":
        strategy = "auto"
    dictionary = oracle.make_dictionary(private_layers=private, strategy=strategy)
    code, coords = oracle.random_code(7, 3), oracle.random_coords(signals)
    torch.testing.assert_close(dictionary(code, coords), oracle.f(dictionary, code, coords), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("private", [1, 3])
def test_atoms_equal_the_oracle(private):
    dictionary, coords = oracle.make_dictionary(private_layers=private), oracle.random_coords(None)
    expected = torch.stack([oracle.atom(dictionary, j, coords) for j in range(7)])
    torch.testing.assert_close(dictionary.atoms(coords), expected)
    torch.testing.assert_close(dictionary.atoms(coords, 2, 5), expected[2:5])
    torch.testing.assert_close(dictionary.atoms(coords, 6), expected[6:])
    assert dictionary.atoms(coords, 7).shape == (0, 5, 2)


@pytest.mark.parametrize(
    ("strategy", "private", "signals", "coordinates", "per_signal", "expected"),
    [
        # n = 3, k = 2, d = 1, h = 5; the costs are in test_evaluation.py.
        ("auto", 1, 100, 10, False, "evaluate_then_combine"),
        ("auto", 1, 2, 10, False, "merge_then_evaluate"),
        ("auto", 1, 100, 10, True, "merge_then_evaluate"),
        ("merge", 1, 100, 10, False, "merge_then_evaluate"),
        ("combine", 1, 2, 10, True, "evaluate_then_combine"),
        ("auto", 2, 2, 10, False, "evaluate_then_combine"),
    ],
)
def test_the_cheaper_strategy_is_used(monkeypatch, strategy, private, signals, coordinates, per_signal, expected):
    dictionary = oracle.make_dictionary(d=1, experts=3, width=5, private_layers=private, strategy=strategy)
    used = []
    for name in ("merge_then_evaluate", "evaluate_then_combine"):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, n=name, f=original: used.append(n) or f(*a))
    code = oracle.random_code(3, 2, signals=signals, d=1)
    dictionary(code, oracle.random_coords(signals if per_signal else None, count=coordinates))
    assert used == [expected]


def sine_dictionary(strategy: str) -> Dictionary:
    return oracle.make_dictionary(
        encoding="identity", activation="sine", omega=2.0, shared_layers=1, trunk_output="activated", strategy=strategy
    )


@pytest.mark.parametrize("strategy", ["merge", "combine"])
def test_derivatives_in_the_coordinates_in_closed_form(strategy):
    # f_c = beta_c + sum_j alpha_j (c_jc + sum_h W_jch sin(2 (a_h . x + b_h))).
    dictionary, code = sine_dictionary(strategy), oracle.random_code(7, 3)
    x = oracle.random_coords(3).detach()
    layer, rows = dictionary.trunk.layers[0], dictionary.experts.rows.detach()
    found = [oracle.gradient(lambda x: dictionary(code, x), x), oracle.laplacian(lambda x: dictionary(code, x), x)]
    slopes, curvatures = torch.zeros(3, 5, 2, 2).double(), torch.zeros(3, 5, 2).double()
    for i in range(3):
        for c in range(2):
            weight = sum(code.values[i, p] * rows[code.indices[i, p], 5 * c : 5 * c + 5] for p in range(3)).detach()
            for h in range(5):
                a, phase = layer.weight[h].detach(), 2 * (x[i] @ layer.weight[h] + layer.bias[h]).detach()
                slopes[i, :, c] += weight[h] * 2 * torch.cos(phase)[:, None] * a
                curvatures[i, :, c] -= weight[h] * 4 * torch.sin(phase) * (a @ a)
    torch.testing.assert_close(found[0], slopes, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[1], curvatures, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 2**30])
@pytest.mark.parametrize("private", [1, 3])
def test_derivatives_through_recomputed_chunks(private, chunk):
    dictionary, code = oracle.make_dictionary(private_layers=private), oracle.random_code(7, 3)
    x, step = oracle.random_coords(3).detach(), 1e-4

    def f(x):
        return evaluate_then_combine(
            dictionary.experts, dictionary.trunk(x), code, code.signals, LocalExchange(), chunk
        )

    shifts = step * torch.eye(2).double()
    with torch.no_grad():
        slopes = torch.stack([(f(x + s) - f(x - s)) / (2 * step) for s in shifts], -1)
        curvature = sum((f(x + s) - 2 * f(x) + f(x - s)) / step**2 for s in shifts)
    torch.testing.assert_close(oracle.gradient(f, x), slopes, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(oracle.laplacian(f, x), curvature, rtol=1e-5, atol=1e-5)
    # The derivative of a slope in the parameters (an eikonal loss) against the oracle's.
    found = oracle.gradient(f, x).square().sum()
    wanted = oracle.gradient(lambda x: oracle.f(dictionary, code, x), x).square().sum()
    parameters = list(dictionary.parameters())
    ones, others = (
        torch.autograd.grad(y, parameters, materialize_grads=True, allow_unused=True) for y in (found, wanted)
    )
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("support", "experts"), [(8, 16), (4, 64)], ids=["product", "gather"])
@pytest.mark.parametrize("private", [1, 2])
@pytest.mark.parametrize("strategy", ["auto", "combine"])
@pytest.mark.parametrize("per_signal", [False, True])
def test_bf16_autocast(support, experts, private, strategy, per_signal):
    config = DictionaryConfig(
        experts=experts, width=16, private_layers=private, strategy=strategy, encoding=Encoding(features=8, scale=1)
    )
    dictionary = Dictionary(config, 2, 3, torch.Generator().manual_seed(0))
    exact = oracle.random_code(experts, support, d=3)
    code = Code(exact.values.float(), exact.bias.float(), exact.indices)
    coords = oracle.random_coords(3 if per_signal else None).detach().float()
    expected = dictionary(code, coords)
    with torch.autocast("cpu", torch.bfloat16):
        # A gate's values come in bfloat16, a solver's in float32.
        for dtype in (torch.bfloat16, torch.float32):
            values = dictionary(Code(code.values.to(dtype), code.bias.to(dtype), code.indices), coords)
            assert (values - expected).abs().max() < 0.03 * expected.abs().max()
            values.float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in dictionary.parameters())
