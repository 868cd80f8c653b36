"""`nid-evaluate`: the split that is asked for, measured by an independent formula, or a clear refusal."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nid_dist.cli.evaluate import main
from nid_dist.training.run import train
from tests.tiny import NAMES, picture, tiny

pytestmark = pytest.mark.usefixtures("quick_figures")


def evaluate(dictionary: Path, out: Path, *arguments: str) -> int:
    return main(["--dictionary", str(dictionary), "--out", str(out), *arguments])


@pytest.mark.parametrize(("given", "name"), [([], "e.png"), (["--split", "val"], "d.png")])
def test_one_split(run: Path, tmp_path: Path, given: list[str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert evaluate(run, out, *given) == 0
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert {row["image"] for row in rows} == {name}
    assert [row["solver"] for row in rows] == ["init", "adam5", "adam10", "ridge", "omp"]
    original = picture(NAMES.index(name)).astype(float)
    for row in rows:
        written = np.asarray(Image.open(out / Path(name).stem / f"{row['solver']}.png")).astype(float)
        # To the rounding of the PNG.
        assert row["psnr_db"] == pytest.approx(10 * math.log10(255**2 / np.mean((written - original) ** 2)), abs=0.05)
    captured = capsys.readouterr()
    assert f"wrote {out}" in captured.out and "next: nid-export" in captured.out


def test_limit_and_solver(images: Path, tmp_path: Path) -> None:
    train(tiny(images, tmp_path / "run", "signals.test=['[bcde].png']", "signals.val=0.0", "training.steps=1"))
    assert evaluate(tmp_path / "run", tmp_path / "out", "--limit", "2", "--solver", "omp", "--blocks", "2") == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(row["image"], row["solver"]) for row in results["rows"]] == [("b.png", "omp2"), ("c.png", "omp2")]
    assert [mean["solver"] for mean in results["means"]] == ["omp2"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--dictionary", "nowhere"], "nowhere: found nothing"),
        (["--limit", "0"], "--limit: found 0"),
        (["--blocks", "-3"], "--blocks"),
        (["--solver", "best"], "--solver: found 'best'"),
    ],
)
def test_bad_input(
    run: Path, tmp_path: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(run, tmp_path / "out", *given) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err
    assert not (tmp_path / "out").exists()


def test_no_images_were_kept_apart(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tiny(images, tmp_path / "run", "signals.test=0.0", "training.steps=1"))
    capsys.readouterr()
    assert evaluate(tmp_path / "run", tmp_path / "out") == 2
    assert "signals.test of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_images_that_have_moved_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.tiny import write_pictures

    images = write_pictures(tmp_path / "images")
    train(tiny(images, tmp_path / "run", "training.steps=1"))
    images.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert evaluate(tmp_path / "run", tmp_path / "out") == 2
    assert "no such folder" in capsys.readouterr().err
