"""Tables letter by letter, JSON read back by the standard parser, and what the machine says."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from nid_dist.errors import UserError
from nid_dist.evaluation.report import Column, Table, machine
from nid_dist.files import replacing, write_json

TABLE = Table(
    [Column("method"), Column("PSNR", "dB", ".2f"), Column("code", "bytes", ",d")],
    [["OMP", 29.876, 1234], ["identical", math.inf, 12], ["PCA|k", math.nan, None]],
)


def test_text() -> None:
    assert TABLE.text() == "\n".join(
        [
            "method     PSNR (dB)  code (bytes)",
            "---------  ---------  ------------",
            "OMP            29.88         1,234",
            "identical        inf            12",
            "PCA|k              –             –",
        ]
    )


def test_markdown() -> None:
    assert TABLE.markdown() == "\n".join(
        [
            "| method    | PSNR (dB) | code (bytes) |",
            "| --------- | --------: | -----------: |",
            "| OMP       |     29.88 |        1,234 |",
            "| identical |       inf |           12 |",
            "| PCA\\|k    |         – |            – |",
        ]
    )


def test_a_table_without_rows_still_has_heads() -> None:
    table = Table(["a", Column("b", "s")], [])
    assert table.text() == "a  b (s)\n-  -----"
    assert table.markdown() == "| a   | b (s) |\n| --- | ----- |"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1 has 1 cells, the table has 2 columns"):
        Table(["a", "b"], [[1, 2], [3]])


def no_constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def test_json_is_valid_and_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_json(
        path,
        {
            "nan": math.nan,
            "inf": [math.inf, -math.inf],
            "numpy": {"scalar": np.float32(0.5), "array": np.array([[1, 2]]), "flag": np.bool_(True)},
            "torch": torch.tensor([1.0, math.nan]),
            "scalar": torch.tensor(3),
            "path": Path("a/b"),
            "tuple": (1, None, True, "é"),
            7: 1.5,
        },
    )
    assert json.loads(path.read_text(encoding="utf-8"), parse_constant=no_constant) == {
        "nan": None,
        "inf": ["inf", "-inf"],
        "numpy": {"scalar": 0.5, "array": [[1, 2]], "flag": True},
        "torch": [1.0, None],
        "scalar": 3,
        "path": "a/b",
        "tuple": [1, None, True, "é"],
        "7": 1.5,
    }


def test_json_takes_file_names_that_are_not_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad\xff.png")
    write_json(tmp_path / "a.json", {"file": name})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["file"] == name


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            assert temporary.parent == tmp_path
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert json.loads(path.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=r"folder\.json"):
        write_json(tmp_path / "folder.json", {})
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.json"]


def test_machine_says_what_a_timing_depends_on() -> None:
    facts = machine()
    assert set(facts) == {"cpu", "cores", "memory_gib", "accelerator", "os", "python", "torch", "threads"}
    assert facts["cpu"] and facts["os"]
    assert 1 <= facts["cores"] <= (os.cpu_count() or 1)
    assert facts["memory_gib"] > 0.1
    assert facts["threads"] == torch.get_num_threads()
    assert facts["torch"] == torch.__version__
    assert facts["python"].startswith("3.")


def test_machine_names_no_host_and_no_path() -> None:
    words = json.dumps(machine()).split('"')
    assert os.uname().nodename not in words
    assert os.getcwd() not in " ".join(words)
