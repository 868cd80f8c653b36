"""Features that are the signals' principal components: what a trunk of many inputs is best used for.

All is found by range finders and one factorisation (Halko, Martinsson and Tropp, "Finding structure with randomness",
SIAM Review 2011): dense decompositions of thousands of inputs would take a minute.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix, eye, hstack
from scipy.sparse.linalg import splu
from torch import Tensor

from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.encodings import Splines
from nid_dist.dictionary.trunk import Trunk

_MORE = 64  # directions than are asked for
_SMALLEST = 1e-6  # share of the largest variance: what inputs have less of is not asked of them
_ROUNDS = 6  # of the range finder of the inputs, whose variances differ little

Weights = Float64[np.ndarray, "p _"]
Functions = Float64[np.ndarray, "C _"]


@torch.no_grad()
def principal_features(dictionary: Dictionary, coords: Float[Tensor, "C m"], signals: Float[Tensor, "S C d"]) -> bool:
    """Let the trunk's last layer give the signals' principal components among all that its many inputs can be.

    They are orthonormal on `coords`, and span as much of the signals as that many features can; where the signals have
    fewer directions, those follow in which the inputs themselves vary most. The dictionary is changed in place, where
    its last shared layer is linear and has more inputs than outputs.
    """
    trunk = dictionary.trunk
    if not trunk.linear_output or not len(trunk.layers):
        return False
    last = trunk.layers[-1]
    assert isinstance(last, torch.nn.Linear)
    wanted = last.out_features
    if last.in_features <= wanted:
        return False
    inputs, draws = _Inputs(_values(trunk, coords)), np.random.default_rng(0)
    found = inputs.orthonormal(inputs.fitted(_strongest(signals, wanted + _MORE, draws)))[:, :wanted]
    if found.shape[1] < wanted:
        more = inputs.strongest(wanted - found.shape[1] + _MORE, draws)
        overlap = inputs.functions(found).T @ inputs.functions(more) / inputs.count
        found = np.concatenate([found, inputs.orthonormal(more - found @ overlap)], 1)[:, :wanted]
    if found.shape[1] < wanted:
        return False
    weight = torch.from_numpy(found.T.copy()).to(last.weight.device)
    last.weight.copy_(weight.to(last.weight.dtype))
    last.bias.copy_(-(weight @ torch.from_numpy(inputs.mean).to(weight)).to(last.bias.dtype))
    return True


def _strongest(signals: Float[Tensor, "S C d"], most: int, draws: np.random.Generator) -> Functions:
    """The signals' principal functions about their own means, each as large as it is in them, strongest first."""
    # The channels of a signal are signals here: features have none.
    points = (signals - signals.mean(1, keepdim=True)).transpose(1, 2).flatten(0, 1).cpu()
    count = min(most, *points.shape)
    rows = torch.from_numpy(draws.standard_normal((len(points), count))).to(points.dtype)
    for _ in range(2):
        basis = torch.linalg.qr(points.t() @ rows).Q
        rows = torch.linalg.qr(points @ basis).Q
    basis = torch.linalg.qr(points.t() @ rows).Q
    _, values, vectors = torch.linalg.svd((points @ basis).double(), full_matrices=False)
    functions: np.ndarray = ((basis.double() @ vectors.t()) * values).numpy()
    return functions


def _values(trunk: Trunk, coords: Float[Tensor, "C m"]) -> csr_matrix | np.ndarray:
    """What the last layer is given at the coordinates; of splines only what is not zero, for they may be very many."""
    if len(trunk.layers) > 1 or not isinstance(trunk.encoding, Splines):
        return trunk.hidden(coords).double().cpu().numpy()
    places, weights = (part.cpu().numpy() for part in trunk.encoding.neighbours(trunk.folded(coords)))
    rows = np.repeat(np.arange(len(coords)), places.shape[1])
    shape = (len(coords), trunk.encoding.out_dim)
    return csr_matrix((weights.ravel().astype(np.float64), (rows, places.ravel())), shape)


class _Inputs:
    """What the last layer is given at the coordinates; functions are its outputs less their means."""

    def __init__(self, matrix: csr_matrix | np.ndarray) -> None:
        self.matrix, (self.count, self.size) = matrix, matrix.shape
        self.mean = np.asarray(matrix.mean(0)).ravel()

    def functions(self, weights: Weights) -> Functions:
        """What comes out, for weights as columns."""
        found: np.ndarray = self.matrix @ weights - self.mean @ weights
        return found

    def fitted(self, functions: Functions) -> Weights:
        """The weights whose functions are nearest to some."""
        ones = np.ones((self.count, 1))  # a constant costs nothing: the layer has a bias
        if isinstance(self.matrix, csr_matrix):
            whole = hstack([self.matrix, ones]).tocsc()
            gram = (whole.T @ whole).tocsc()
            added = _SMALLEST * np.abs(gram).sum(0).max()  # no less than the largest eigenvalue
            solved = splu(gram + added * eye(self.size + 1, format="csc")).solve(whole.T @ functions)
        else:
            whole = np.concatenate([self.matrix, ones], 1)
            gram = whole.T @ whole
            gram.flat[:: self.size + 2] += _SMALLEST * np.abs(gram).sum(0).max()
            solved = cho_solve(cho_factor(gram), whole.T @ functions)
        weights: np.ndarray = solved[:-1]
        return weights

    def orthonormal(self, weights: Weights) -> Weights:
        """Weights of orthonormal functions with the same span, strongest first; as many as there are directions."""
        functions = self.functions(weights)
        values, vectors = np.linalg.eigh(functions.T @ functions / self.count)
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = values > _SMALLEST**2 * max(values[0], 1e-300)
        found: np.ndarray = weights @ (vectors[:, kept] / np.sqrt(values[kept]))
        return found

    def strongest(self, most: int, draws: np.random.Generator) -> Weights:
        """Orthonormal weights in whose directions the inputs vary most."""
        weights: np.ndarray = np.linalg.qr(draws.standard_normal((self.size, min(most, self.size))))[0]
        for _ in range(_ROUNDS):
            weights = np.linalg.qr(self.matrix.T @ self.functions(weights))[0]
        return weights
