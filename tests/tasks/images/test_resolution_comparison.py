"""More resolution compared, small: every method, tables and pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nid_dist.cli.compare import main
from nid_dist.tasks.images.resolution_comparison import resampled


def test_all_are_enlarged_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "enlarged"
    assert main(["--config", str(folder / "resolution.yaml"), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"table.md", "results.json", "grid-24.png"}
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"NID", "bicubic", "Lanczos"}
    assert all(row["pixels"] == "12 to 24" and row["psnr_db"] > 10 for row in rows)
    assert "next: look at" in capsys.readouterr().out


def test_resampling_keeps_the_values_of_what_is_smooth() -> None:
    ramp = np.broadcast_to(np.linspace(0.2, 0.8, 16, dtype=np.float32)[None, :, None], (16, 16, 3)).copy()
    found = resampled(ramp, factor=2, kernel=Image.Resampling.BICUBIC)
    # Pixel centres of the fine grid lie a quarter of a coarse pixel beside those of the coarse one.
    step = 0.6 / 15
    expected = 0.2 + step * ((np.arange(32) + 0.5) / 2 - 0.5)
    np.testing.assert_allclose(found[16, 6:26, 0], expected[6:26], atol=1e-4)
    assert found.shape == (32, 32, 3)
