"""A small dictionary with signals on a grid, and its atoms as plain columns."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Field, Sampling
from tests.dictionary import oracle


@dataclass(frozen=True)
class Mixing:
    """R f = matrix times f at the coordinates: any linear measurement, the constant's not being constant."""

    matrix: torch.Tensor
    coords: torch.Tensor

    @property
    def size(self) -> int:
        return len(self.matrix)

    def chunks(self, field: Field, rows: int) -> Iterator[tuple[slice, torch.Tensor]]:
        for first in range(0, self.size, rows):
            part = slice(first, min(first + rows, self.size))
            yield part, self.matrix[part] @ field(self.coords)


@dataclass(frozen=True)
class Setting:
    """T = 4 signals of d = 2 channels measured at C = 40 coordinates; n = 20, h = 6."""

    dictionary: Dictionary
    measurement: Sampling
    signals: torch.Tensor

    def columns(self) -> np.ndarray:
        """Every atom as a column: [C * d, n]."""
        coords = self.measurement.coords
        atoms = [oracle.atom(self.dictionary, j, coords).detach().flatten() for j in range(self.dictionary.num_experts)]
        return torch.stack(atoms, 1).numpy()

    def bias_columns(self) -> np.ndarray:
        """One column per channel: [C * d, d]."""
        return np.tile(np.eye(2), (self.measurement.size, 1))

    def rows(self) -> np.ndarray:
        """Every signal as a row: [T, C * d]."""
        return self.signals.flatten(1).numpy()


def make(private: int = 1, count: int = 40, seed: int = 0, **options) -> Setting:
    dictionary = oracle.make_dictionary(
        experts=20, width=6, private_layers=private, shared_layers=1, features=8, seed=seed, **options
    )
    generator = torch.Generator().manual_seed(seed + 10)
    coords = 2 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 1
    signals = torch.rand(4, count, 2, generator=generator, dtype=torch.float64)
    return Setting(dictionary, Sampling(coords), signals)


@pytest.fixture(params=["linear heads", "deep experts"])
def setting(request) -> Setting:
    return make(1 if request.param == "linear heads" else 2)


@pytest.fixture
def make_setting():
    return make


@pytest.fixture
def make_mixing():
    """40 measurements of another 30 points."""

    def make_one(seed: int = 0) -> Mixing:
        generator = torch.Generator().manual_seed(seed + 20)
        matrix = torch.rand(40, 30, generator=generator, dtype=torch.float64)
        return Mixing(matrix, 2 * torch.rand(30, 2, generator=generator, dtype=torch.float64) - 1)

    return make_one
