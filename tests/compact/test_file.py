"""A file of compact codes: what is loaded is what was saved, and nothing damaged is taken for codes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nid_dist.code import dequantized, load_codes
from nid_dist.compact.file import compact_bytes, save_compact
from nid_dist.compact.stream import Symbols
from nid_dist.errors import UserError
from tests.compact.test_stream import symbols

FACTS = {"methods": ["omp"], "columns": 6, "height": 64, "width": 96, "patch": 16, "stride": None, "image": "ü/x.png"}


def test_load_codes(tmp_path: Path) -> None:
    given, path = symbols(24, 60, 0.2, 2.0), tmp_path / "omp.nidc"
    assert save_compact(path, given, 0.037, 0.05, FACTS) == path.stat().st_size
    codes, facts = load_codes(path)
    assert facts == {**FACTS, "signals": 24, "experts": 60, "channels": 3, "step": 0.037, "bias_step": 0.05}
    (code,) = codes.values()
    assert list(codes) == ["omp"] and code.values.dtype == torch.float32
    np.testing.assert_array_equal(code.dense(60).numpy(), (given.values * 0.037).astype(np.float32))
    np.testing.assert_array_equal(code.bias.numpy(), (given.biases * 0.05).astype(np.float32))
    assert code.indices is not None and all(len(set(row)) == len(row) for row in code.indices.tolist())
    assert code.values.shape[1] == (given.values != 0).sum(1).max()


def test_no_coefficients_at_all() -> None:
    code = dequantized(np.zeros((2, 4), np.int64), np.ones((2, 1), np.int64), 0.1, 0.5)
    assert code.values.tolist() == [[0.0], [0.0]] and code.bias.tolist() == [[0.5], [0.5]]


def test_damage_is_refused(tmp_path: Path) -> None:
    content, path = compact_bytes(symbols(4, 9, 0.5, 2.0), 0.1, 0.1, FACTS), tmp_path / "x.nidc"
    for place in range(4, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"x.nidc: found "):
            load_codes(path)
    for length in (4, 8, 12, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"x.nidc: found "):
            load_codes(path)


@pytest.mark.parametrize(
    "facts", [{"methods": []}, {"methods": ["omp", "init"]}, {"methods": ["omp"], "columns": 0}, {"methods": None}]
)
def test_facts_that_contradict(tmp_path: Path, facts: dict[str, object]) -> None:
    path = tmp_path / "x.nidc"
    empty = Symbols(np.zeros((0, 3), np.int64), np.zeros((0, 1), np.int64))
    path.write_bytes(compact_bytes(empty, 0.1, 0.1, facts))
    with pytest.raises(UserError, match="x.nidc: found no codes"):
        load_codes(path)
