"""The command `nid-inpaint`: what it writes, whom it compares with, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nid_dist.baselines.config import load_baseline
from nid_dist.cli import inpaint as command
from nid_dist.cli.inpaint import main
from tests.tiny import picture


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tiny networks, and figures drawn elsewhere."""
    (tmp_path / "siren.yaml").write_text("{kind: siren, width: 8, hidden_layers: 1, output: unit, steps: 3}")
    monkeypatch.setattr(command, "load_baseline", lambda name: load_baseline(tmp_path / f"{Path(name).name}.yaml"))


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(picture(4)).save(path)
    return path


def test_an_experiment(run: Path, photograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    given = ["--dictionary", str(run), "--input", str(photograph), "--out", str(out)]
    assert main([*given, "--corrupt", "random", "--kept", "0.3"]) == 0
    names = {
        "comparison.png",
        "inpainted.png",
        "trusted.png",
        "deviation.png",
        "deviation.npy",
        "table.md",
        "results.json",
    }
    assert {path.name for path in out.iterdir()} == names
    rows = {row["method"]: row for row in json.loads((out / "results.json").read_text())["rows"]}
    assert list(rows) == ["corrupted", "NID", "SIREN", "biharmonic"]
    assert rows["NID"]["psnr_db"] > rows["corrupted"]["psnr_db"] + 3
    trusted = np.asarray(Image.open(out / "trusted.png")) > 127
    shown, clean = np.asarray(Image.open(out / "inpainted.png")), picture(4)
    assert trusted.mean() == pytest.approx(0.3, abs=0.01) and np.array_equal(shown[trusted], clean[trusted])
    assert f"next: look at {out}/comparison.png" in capsys.readouterr().out
    assert main([*given, "--corrupt", "box"]) == 2  # the folder holds results


def test_ones_own_mask_and_none(
    run: Path, photograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.full((24, 32), 255, np.uint8)
    mask[8:14, 8:20] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = ["--dictionary", str(run), "--input", str(photograph)]
    masked = ["--mask", str(tmp_path / "mask.png"), "--against", "biharmonic"]
    assert main([*given, *masked, "--out", str(tmp_path / "a")]) == 0
    rows = json.loads((tmp_path / "a" / "results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["corrupted", "NID", "biharmonic"]
    assert all(row["psnr_db"] is None for row in rows)  # nobody knows the truth
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a" / "trusted.png")), mask)
    assert "found corrupted" not in capsys.readouterr().out
    assert main([*given, "--out", str(tmp_path / "b")]) == 0
    rows = json.loads((tmp_path / "b" / "results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["corrupted", "NID"]
    assert "% of the pixels were found corrupted" in capsys.readouterr().out


def test_transparent_holes_and_inverted_masks(
    run: Path, photograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """120 of 768 pixels are 15.6 %."""
    known = np.full((24, 32), 255, np.uint8)
    known[6:16, 8:20] = 0
    Image.fromarray(np.dstack([picture(4), known])).save(tmp_path / "hole.png")
    Image.fromarray(255 - known).save(tmp_path / "inverted.png")
    for place, more in enumerate(
        (["--input", "hole.png"], ["--input", "photo.png", "--mask", "inverted.png", "--mask-unknown", "white"])
    ):
        words = [str(tmp_path / word) if word.endswith(".png") else word for word in more]
        out = tmp_path / f"out{place}"
        assert main(["--dictionary", str(run), *words, "--out", str(out), "--against", "biharmonic"]) == 0
        said = capsys.readouterr()
        assert "15.6% of the pixels are unknown" in said.out and "warning: the mask" not in said.err
        np.testing.assert_array_equal(np.asarray(Image.open(out / "trusted.png")), known)
        shown = np.asarray(Image.open(out / "inpainted.png"))
        np.testing.assert_array_equal(shown[known > 0], picture(4)[known > 0])
    words = ["--input", str(photograph), "--mask", str(tmp_path / "inverted.png"), "--out", str(tmp_path / "third")]
    assert main(["--dictionary", str(run), *words, "--against", "biharmonic"]) == 0
    said = capsys.readouterr()
    assert "84.4% of the pixels are unknown" in said.out
    assert "warning: the mask: found no pixel of the image's border known, taken as 84.4%" in said.err


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--mask", "small.png"], "the mask: found 3x4 pixels, expected 24x32, as the image has"),
        (["--mask", "black.png"], "the mask: found no known pixel"),
        (["--mask", "none.png"], "none.png: found no such file"),
        (["--mask", "black.png", "--corrupt", "box"], "--mask: found one, with --corrupt"),
        (["--corrupt", "random", "--kept", "0"], "--kept: found 0.0"),
        (["--noise", "0"], "--noise: found 0.0"),
        (["--mask-unknown", "white"], "--mask-unknown: found no --mask"),
        (["--mask", "small.png", "--mask-unknown", "alpha"], "small.png: found no transparent pixel"),
        (["--corrupt", "box", "--against", "meta"], "--against meta: found no --meta-start"),
    ],
)
def test_refusals(
    more: list[str], error: str, run: Path, photograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((3, 4), 255, np.uint8)).save(tmp_path / "small.png")
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(tmp_path / "black.png")
    more = [str(tmp_path / word) if word.endswith(".png") else word for word in more]
    out = tmp_path / "out"
    assert main(["--dictionary", str(run), "--input", str(photograph), "--out", str(out), *more]) == 2
    assert error in capsys.readouterr().err and not out.exists()
