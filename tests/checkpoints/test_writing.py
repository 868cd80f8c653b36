"""Files of tensors: what the library reads is what was given, and writing takes no memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from nid_dist.checkpoints import writing
from nid_dist.checkpoints.writing import write_tensors
from tests.checkpoints.test_checkpoint import TENSORS

PEAK = """
import resource, sys, torch
from pathlib import Path
from nid_dist.checkpoints.writing import write_tensors
tensors = {name: torch.ones(2**16, 2**10) for name in ("rows", "moment")}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_tensors(Path(sys.argv[1]), tensors, {})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("piece", [1, 5, 2**24])
def test_the_library_reads_what_was_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, piece: int) -> None:
    monkeypatch.setattr(writing, "_PIECE", piece)
    path = tmp_path / "some.safetensors"
    assert write_tensors(path, TENSORS, {"ü": '{"a": 1}'}) == path.stat().st_size
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "ü": '{"a": 1}'}


def test_nothing_in_it(tmp_path: Path) -> None:
    write_tensors(tmp_path / "none.safetensors", {}, {})
    assert load_file(tmp_path / "none.safetensors") == {}


def test_tensors_are_not_held_twice(tmp_path: Path) -> None:
    # 512 MiB in two tensors.
    ended = subprocess.run([sys.executable, "-c", PEAK, tmp_path / "file"], capture_output=True, text=True, check=True)
    assert (tmp_path / "file").stat().st_size > 2**29
    assert int(ended.stdout) < 2**17, "KiB"
