"""`nid-export`: one folder, and a word on what to do with it."""

from pathlib import Path

import pytest
import torch

import nid_dist
from nid_dist.cli.export import main


def test_export(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "dictionary"
    assert main(["--dictionary", str(run), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"wrote {out}: model.safetensors, config.yaml, model.json (")
    assert "next: nid-fit" in captured.out and captured.err == ""
    model, trained = nid_dist.load(out), nid_dist.load(run)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())


def test_nothing_is_overwritten(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    assert main(["--dictionary", str(run), "--out", str(tmp_path / "mine")]) == 2
    assert capsys.readouterr().err.endswith("mine: found an existing path, expected a new folder; "
                                            "choose another --out or remove it\n")  # fmt: skip
    assert list((tmp_path / "mine").iterdir()) == []


def test_no_dictionary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dictionary", str(tmp_path / "no"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
