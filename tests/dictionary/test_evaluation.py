import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nid_dist.code import Code
from nid_dist.dictionary.evaluation import cheaper_strategy, evaluate_then_combine, merge_then_evaluate
from nid_dist.parallel.exchange.exchange import LocalExchange
from tests.dictionary import oracle

TINY, HUGE = 1, 2**30


def repeated_zeros() -> Code:
    # What an exchange pads with: coefficients of zero that all stand at expert 0, besides one that is used.
    values = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [-2.0, 1.0, 0.0]], dtype=torch.float64)
    indices = torch.tensor([[4, 0, 0], [0, 0, 0], [6, 2, 0]])
    return Code(values.requires_grad_(), torch.ones(3, 2, dtype=torch.float64).requires_grad_(), indices)


CODES = {
    "sparse": lambda: oracle.random_code(7, 3),
    "dense": lambda: oracle.random_code(7, None),
    "k=1": lambda: oracle.random_code(7, 1),
    "k=n": lambda: oracle.random_code(7, 7),
    "experts that nobody uses": lambda: oracle.random_code(7, 2, used=3),
    "repeated zeros": repeated_zeros,
}


class Strategy(torch.nn.Module):
    """Sums without the bias, by one strategy: "merge", or the bytes of a chunk of "combine"."""

    def __init__(self, dictionary, strategy):
        super().__init__()
        self.dictionary, self.strategy = dictionary, strategy

    def forward(self, code, coords):
        experts, phi = self.dictionary.experts, self.dictionary.trunk(coords)
        if self.strategy == "merge":
            return merge_then_evaluate(experts, phi, code, code.signals, LocalExchange())
        return evaluate_then_combine(experts, phi, code, code.signals, LocalExchange(), self.strategy)


def strategies(dictionary):
    return [Strategy(dictionary, s) for s in (["merge"] if dictionary.linear else []) + [TINY, HUGE]]


def compare(dictionary, code, coords):
    leaves = [code.values, code.bias, coords, *dictionary.parameters()]
    expected = oracle.f(dictionary, code, coords)
    weights = torch.randn(expected.shape, dtype=torch.float64)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves, allow_unused=True, materialize_grads=True)
    for strategy in strategies(dictionary):
        values = strategy(code, coords) + code.bias[:, None]
        torch.testing.assert_close(values, expected, rtol=1e-10, atol=1e-10)
        grads = torch.autograd.grad((values * weights).sum(), leaves, allow_unused=True, materialize_grads=True)
        for found, gradient in zip(grads, wanted, strict=True):
            torch.testing.assert_close(found, gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("signals", [None, 3], ids=["shared", "per signal"])
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("private", "shared"), [(1, 0), (1, 2), (2, 0), (3, 1)])
def test_values_and_all_gradients_equal_the_dense_oracle(private, shared, code, signals):
    dictionary = oracle.make_dictionary(private_layers=private, shared_layers=shared)
    compare(dictionary, CODES[code](), oracle.random_coords(signals))


@pytest.mark.parametrize("signals", [None, 3], ids=["shared", "per signal"])
@pytest.mark.parametrize(("private", "shared"), [(p, s) for p in (1, 2, 3, 4) for s in (0, 1, 2, 3)])
def test_every_split_into_shared_and_private_layers(private, shared, signals):
    output = "activated" if shared == 2 else "linear"
    dictionary = oracle.make_dictionary(
        private_layers=private, shared_layers=shared, trunk_output=output, activation="gelu"
    )
    compare(dictionary, oracle.random_code(7, 3), oracle.random_coords(signals))


@pytest.mark.parametrize(("m", "d"), [(1, 1), (3, 1), (1, 4), (3, 3)])
@pytest.mark.parametrize("private", [1, 2])
def test_other_dimensions_and_channels(m, d, private):
    dictionary = oracle.make_dictionary(m=m, d=d, private_layers=private, activation="sine", omega=3.0)
    for signals in (None, 3):
        compare(dictionary, oracle.random_code(7, 3, d=d), oracle.random_coords(signals, m=m))


@pytest.mark.parametrize("private", [1, 2])
@pytest.mark.parametrize("per_signal", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_zeros_without_gradient_are_left_out(private, per_signal, dense):
    # The values ask for no gradient, as solved codes do: what is zero may be skipped, all of it included.
    dictionary = oracle.make_dictionary(private_layers=private)
    values = torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    code = Code(values, torch.zeros(3, 2, dtype=torch.float64), torch.tensor([[0, 5], [1, 2], [6, 3]]))
    code = Code(code.dense(7), code.bias) if dense else code
    for part in (slice(0, 3), slice(1, 2)):
        coords = oracle.random_coords(len(code.values[part]) if per_signal else None)
        expected = oracle.f(dictionary, code.rows(part), coords)
        for strategy in strategies(dictionary):
            sums = strategy(code.rows(part), coords)
            torch.testing.assert_close(sums, expected, rtol=1e-10, atol=1e-10)
            # Whoever has no work stays in the graph: on several ranks the way back waits for all.
            assert sums.requires_grad


@pytest.mark.parametrize("private", [1, 2])
@pytest.mark.parametrize("per_signal", [False, True])
def test_a_batch_without_signals(private, per_signal):
    dictionary = oracle.make_dictionary(private_layers=private)
    indices = torch.zeros(0, 3, dtype=torch.long)
    code = Code(torch.zeros(0, 3).double().requires_grad_(), torch.zeros(0, 2).double(), indices)
    for strategy in strategies(dictionary):
        sums = strategy(code, oracle.random_coords(0 if per_signal else None))
        assert sums.shape == (0, 5, 2)
        sums.sum().backward()


@pytest.mark.parametrize("signals", [None, 2], ids=["shared", "per signal"])
@pytest.mark.parametrize(("private", "strategy"), [(1, "merge"), (1, TINY), (1, HUGE), (2, TINY), (2, HUGE)])
def test_gradcheck(private, strategy, signals):
    dictionary = oracle.make_dictionary(
        m=1, d=1, experts=3, width=2, private_width=2, private_layers=private, shared_layers=1, features=1
    )
    code, coords = oracle.random_code(3, 2, signals=2, d=1), oracle.random_coords(signals, count=2, m=1)
    run = Strategy(dictionary, strategy)
    names = [name for name, _ in run.named_parameters()]

    def evaluate(values, x, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(run, state, (Code(values, code.bias, code.indices), x))

    leaves = [p.detach().clone().requires_grad_() for p in run.parameters()]
    assert torch.autograd.gradcheck(evaluate, (code.values, coords, *leaves))


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation makes, views apart."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor._base is None and not function.is_view:
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("private", [1, 2])
@pytest.mark.parametrize("per_signal", [False, True])
def test_memory_of_combine_is_bounded_by_the_chunk(private, per_signal):
    # No encoding and no trunk: features are 2 numbers, while the hidden layer of an expert has 16.
    options = {"experts": 200, "shared_layers": 0, "private_width": 16, "encoding": "identity"}
    dictionary = oracle.make_dictionary(private_layers=private, **options)
    code, coords = oracle.random_code(200, 50), oracle.random_coords(3 if per_signal else None, count=100)
    chunk = 2**16
    with LargestTensor() as seen:
        phi = dictionary.trunk(coords)
        evaluate_then_combine(
            dictionary.experts, phi, code, code.signals, LocalExchange(), chunk
        ).square().sum().backward()
    # Parameters, dense codes and results (3 x 100 x 2) are smaller; all atoms at once would be 320 000 bytes for linear
    # heads, 2 560 000 for the hidden layers of the others, and half or three quarters of that per signal.
    assert max(p.numel() * 8 for p in dictionary.parameters()) <= chunk
    assert seen.bytes <= chunk


@pytest.mark.parametrize(
    ("signals", "coordinates", "support", "experts", "channels", "width", "shared", "expected"),
    [
        # merge: T d (k (h + 1) + C h); combine: C d min(n, T k) (h + T).
        (2, 3, 1, 4, 1, 5, True, "merge"),  # 42 and 42
        (2, 3, 1, 1, 1, 5, True, "combine"),  # 42 and 21
        (100, 10, 2, 3, 1, 5, True, "combine"),  # 6 200 and 3 150
        (100, 10, 2, 3, 1, 5, False, "merge"),
        (100, 10, 2, 6, 1, 5, True, "merge"),  # 6 200 and 6 300
        (128, 256, 64, 1024, 3, 256, True, "merge"),  # 31 481 856 and 301 989 888
        (128, 256, 64, 64, 3, 256, True, "combine"),  # 31 481 856 and 18 874 368
        (1, 1, 4, 65536, 1, 8, True, "combine"),  # 44 and 36: no more than 4 of the experts are evaluated
    ],
)
def test_cheaper_strategy(signals, coordinates, support, experts, channels, width, shared, expected):
    found = cheaper_strategy(
        signals=signals,
        coordinates=coordinates,
        support=support,
        experts=experts,
        channels=channels,
        width=width,
        shared=shared,
    )
    assert found == expected
