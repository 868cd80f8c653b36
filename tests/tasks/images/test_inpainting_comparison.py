"""Inpainting compared, small: every method on every corruption, tables, and the plot against known pixels."""

import json
from pathlib import Path

import numpy as np
import pytest

from nid_dist.cli.compare import main
from nid_dist.comparison.runner import run_method
from nid_dist.tasks.comparison import ComparedMethod
from nid_dist.tasks.images.corruptions import Corrupted
from nid_dist.tasks.images.fillers import filler, kept


@pytest.fixture(autouse=True)
def _small_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nid_dist.tasks.images.photographs._META_SIDE", 16)


def test_everything_is_filled_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "inpainted"
    assert main(["--config", str(folder / "inpainting.yaml"), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"table.md", "results.json", "grid-e.png", "known.png"}
    results = json.loads((out / "results.json").read_text())
    found = {(row["corruption"], row["method"]): row for row in results["rows"]}
    everyone = {"corrupted", "NID", "NID, mask unknown", "SIREN", "Meta + 2 steps", "biharmonic"}
    assert {method for words, method in found if words == "text"} == everyone
    assert {method for words, method in found if words == "10% of pixels"} == everyone - {"NID, mask unknown"}
    for words in ("box", "text", "50% of pixels", "10% of pixels"):
        scores = {method: row["psnr_db"] for (case, method), row in found.items() if case == words}
        assert scores["NID"] > scores["corrupted"] + 1 and scores["biharmonic"] > scores["corrupted"] + 1
        assert found[words, "NID"]["psnr_unknown_db"] < scores["NID"]
        over = results[f"db_over_biharmonic_{words.replace('% of pixels', '_percent')}"]
        assert over == pytest.approx(scores["NID"] - scores["biharmonic"], abs=0.006)
    assert results["db_unknown_text"] == pytest.approx(found["text", "NID, mask unknown"]["psnr_db"], abs=0.006)
    said = capsys.readouterr().out
    assert "PSNR over the unknown pixels alone" in said and f"next: look at {out}/grid-e.png" in said


def test_known_pixels_stay() -> None:
    image, known = np.full((4, 4, 3), 0.25, np.float32), np.eye(4, dtype=bool)
    black = ComparedMethod("black", filler(lambda i, k: kept(np.zeros_like(i), i, k)))
    picture, costs = run_method(black, Corrupted(image, known))
    assert np.array_equal(picture[..., 0], 0.25 * np.eye(4, dtype=np.float32)) and costs["seconds"] >= 0
