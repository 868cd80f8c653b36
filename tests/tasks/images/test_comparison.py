"""The table of images, small: what is trained once, what is written, and that every method is there."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nid_dist.cli.compare import main
from nid_dist.tasks.comparison import ComparedMethod, Outcome, Reconstruction, Subject
from nid_dist.tasks.images.comparison import figures, report
from tests.tiny import picture


@pytest.fixture(autouse=True)
def _small_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nid_dist.tasks.images.photographs._META_SIDE", 16)


def test_everything_is_compared_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(folder / "images.yaml")]) == 0
    out = folder / "runs" / "results-images"
    groups = ("16x16", "20x20")
    pictures = {f"{kind}-{group}.png" for kind in ("grid", "seconds", "bytes") for group in groups}
    assert {path.name for path in out.iterdir()} == {"table.md", "results.json", *pictures}
    results = json.loads((out / "results.json").read_text())
    ours = [f"{name}, {way}" for name in ("NID, patches", "NID whole") for way in WAYS]
    fixed = [f"{name}, best k={k}" for name in ("DCT", "PCA") for k in (4, 9)]
    assert [row["method"] for row in results["means"][: len(ours) + 7]] == [*ours, *fixed, *NETWORKS]
    rows = [row for row in results["rows"] if row["group"] == "16x16"]
    assert {row["image"] for row in rows} == {"e.png"}
    by = {row["method"]: row for row in rows}
    # 2 x 2 patches of 4 coefficients and 3 biases; whole images have one.
    assert by["NID, patches, OMP"]["numbers"] == 4 * 7 and by["NID whole, OMP"]["numbers"] == 7
    assert by["DCT, best k=4"]["numbers"] == 4 * 7 and by["DCT, best k=4"]["shared"] == 0
    assert by["PCA, best k=4"]["shared"] == 192**2 and by["PCA, best k=9"]["psnr_db"] > by["PCA, best k=4"]["psnr_db"]
    assert by["SIREN"]["numbers"] == 3 * 8 + 9 * 8 + 9 * 3 and by["SIREN"]["shared"] == 0
    assert by["SIREN"]["gmac"] == pytest.approx(256 * (2 * 8 + 8 * 8 + 8 * 3) / 1e9)
    for name in ("NID, patches", "NID whole"):
        assert by[f"{name}, OMP"]["psnr_db"] > by[f"{name}, init"]["psnr_db"] - 0.5
        assert by[f"{name}, ridge"]["psnr_db"] >= by[f"{name}, + 10 steps"]["psnr_db"] - 1e-3
    assert all(row["lpips"] is None and row["seconds"] > 0 for row in rows)
    sizes = {row["method"]: row for row in results["bytes"] if row["group"] == "16x16"}
    assert len(sizes) == 3 * 4 and all(row["bytes"] > 0 for row in sizes.values())
    assert sizes["NID, patches, compact, 34 dB"]["quality"] == 34 and "times WebP's" in (out / "table.md").read_text()
    said = capsys.readouterr()
    assert "training NID, patches" in said.err and "learning the start of meta" in said.err
    assert f"next: look at {out}/grid-16x16.png" in said.out
    assert np.asarray(Image.open(out / "grid-16x16.png")).std() > 1


WAYS = ("init", "+ 5 steps", "+ 10 steps", "ridge", "OMP")
NETWORKS = ("SIREN", "Meta + 1 steps", "Meta + 2 steps")


def test_it_finds_what_was_trained_and_takes_ones_own_images(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    Image.fromarray(picture(9)).save(own / "mine.png")
    (own / "broken.png").write_bytes(b"no image")
    given = ["--config", str(folder / "images.yaml"), "--input", str(own), "--out", str(tmp_path / "out")]
    code = main([*given, "--set", "sides=[16]", "baselines=[]"])
    said = capsys.readouterr()
    assert code == 2 and "broken.png: found a file that is no image" in said.err
    assert "training" not in said.err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["image"] for row in results["rows"]} == {"mine.png"} and list(results["failed"]) == ["broken.png"]
    assert "broken.png" in (tmp_path / "out" / "table.md").read_text()
    assert main([*given, "--set", "sides=[16]"]) == 2  # the folder holds results now
    assert "expected a new or empty one" in capsys.readouterr().err


def test_another_dictionary_in_the_same_place_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = (folder / "images.yaml").read_text().replace("prior_rank=8", "prior_rank=8, coding.support=5")
    (folder / "changed.yaml").write_text(changed)
    main(["--config", str(folder / "images.yaml"), "--set", "sides=[16]", "baselines=[]"])
    assert main(["--config", str(folder / "changed.yaml")]) == 2
    assert "a dictionary trained with another coding.support" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("task: imagse\n", "task: found imagse, expected one of images, inpainting"),
        ("task: images\n", "dictionaries: found nothing"),
        ("task: images\nsides: [0]\n", "sides"),
        ("task: images\ndictionaries: [{name: a, config: b}]\nlimt: 3\n", "the unknown key limt.*write limit"),
        ("sides: [16]\n", "task: found None"),
    ],
)
def test_configurations_that_cannot_be(
    text: str, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert main(["--config", str(tmp_path / "c.yaml")]) == 2
    import re

    assert re.search(error, capsys.readouterr().err)


def test_an_input_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(folder / "images.yaml"), "--input", str(folder / "none")]) == 2
    assert "found nothing, expected a file or a folder" in capsys.readouterr().err


def test_figures_of_rows_are_those_of_the_pictures() -> None:
    target = np.full((4, 4, 3), 0.5, np.float32)
    pictures = {"a": target + np.float32(0.1), "b": target + np.float32(0.01)}
    rows = [
        {"group": "g", "image": name, "method": "m", "seconds": seconds, "gmac": 1.0, "trace": []}
        | figures(lambda estimate, _: float(estimate[0, 0, 0]), pictures[name], target, target)
        for name, seconds in (("a", 1.0), ("b", 3.0))
    ]
    assert [row["psnr_db"] for row in rows] == pytest.approx([20, 40], abs=1e-3)
    subject = Subject("a", {}, lambda: (target, target))
    method = ComparedMethod("m", lambda image, _: Reconstruction(lambda: image))
    found = report([Outcome(subject, method, row) for row in rows])
    (mean,) = found.facts["means"]
    assert mean["psnr_db"] == pytest.approx(30, abs=1e-3) and mean["seconds"] == 2 and mean["gmac"] == 1
    assert mean["image"] == "g, mean of 2" and mean["lpips"] == pytest.approx(0.555)
    assert "30.00" in found.table.text()
