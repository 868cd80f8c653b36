"""The quickstart, small: what it writes and says, and what happens when it is started again."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nid_dist.cli import quickstart
from nid_dist.cli.quickstart import main
from nid_dist.tasks.images import sources

SMALL = [
    "--set",
    "signals.short_side=32",
    "signals.val=[camera]",
    "dictionary={experts: 64, width: 32, encoding: {kind: fourier, features: 16, scale: 10}}",
    "coding.support=8",
    "coding.gate.iterations=2",
    "parallel.device=cpu",
    "training.steps=4",
    "training.batch=16",
    "logging.tensorboard=false",
    "logging.progress=false",
]


@pytest.fixture(autouse=True)
def _few_small_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "EMBEDDED", ("chelsea", "coins", "camera", "astronaut"))
    monkeypatch.setattr(quickstart, "_ATOMS", 6)


def test_it_trains_fits_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["--out", str(out), *SMALL]) == 0
    assert {path.name for path in out.iterdir()} == {"atoms.png", "comparison.png", "results.json", "table.md", "train"}
    results = json.loads((out / "results.json").read_text())
    keys = {"db_omp", "db_ridge_gate", "db_gate_init", "db_pca", "db_pca_best", "db_dct_best", "seconds"}
    assert keys <= results.keys() and all(math.isfinite(results[key]) for key in keys)
    assert results["held_out"] == "astronaut" and (results["experts"], results["support"]) == (64, 8)
    assert results["db_omp"] > results["db_ridge_gate"] - 0.5 and results["db_pca_best"] > results["db_pca"]
    assert np.asarray(Image.open(out / "atoms.png")).std() > 1
    said = capsys.readouterr().out
    assert "comparison.png and atoms.png (look at these first)" in said
    assert f"next: .venv/bin/nid-fit --dictionary {out}/train" in said
    assert main(["--out", str(out), *SMALL]) == 0
    again = json.loads((out / "results.json").read_text())
    assert again["db_omp"] == results["db_omp"]
    assert again["training_seconds"] == results["training_seconds"] < again["seconds"]


@pytest.mark.parametrize(
    ("given", "message"),
    [(["signals.tset=0"], "signals.tset"), (["signals.test=0.0"], "signals.test"), (["training.steps"], "no `=`")],
)
def test_bad_input(tmp_path: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "out"), *SMALL, *given]) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error


def test_without_a_gate_omp_is_compared_alone(tmp_path: Path) -> None:
    given = ["coding.gate.kind=none", "coding.phases=[{mode: solve}]"]
    assert main(["--out", str(tmp_path / "out"), *SMALL, *given]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "db_omp" in results and "db_gate_init" not in results
