"""The comparison on a tiny clip and on a video file: rows, pictures, and what is found again."""

import json
from pathlib import Path

import numpy as np
import pytest

from nid_dist.cli.compare import main
from nid_dist.comparison.factory import load_comparison
from nid_dist.comparison.runner import run
from nid_dist.tasks.video.decomposition.writing import writing
from nid_dist.tasks.video.separations import Separation, by_pursuit, figures
from nid_dist.tasks.video.synthetic_clip import Clip, synthetic_clip
from tests.tasks.video.decomposition.conftest import SIZES

SHORT = "training.steps=3, dictionary.width=8"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    (folder / "video.yaml").write_text(SIZES)
    (folder / "compare.yaml").write_text(
        f"task: video\nframes: 12\nrows: 48\ncolumns: 64\nrun_dir: {folder}/runs\ndictionaries:\n"
        f"  - {{name: NID, config: video.yaml, set: [{SHORT}]}}\n"
        f"  - {{name: gaps, clip_only: true, config: video.yaml, set: [{SHORT}, signals.video.missing_frames=0.2]}}\n"
    )
    return folder / "compare.yaml"


def test_the_command(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.mkv"
    with writing(path, 25.0, lossless=True) as video:
        for frame in synthetic_clip(8, 48, 50, seed=1).frames:
            video.add(frame)
    assert main(["--config", str(config), "--input", str(path), "--out", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    rows = {(row["video"], row["method"]): row for row in results["rows"]}
    assert set(rows) == {
        *(("synthetic", name) for name in ("NID", "gaps", "PCP", "temporal median", "median times gain")),
        *(("mine", name) for name in ("NID", "PCP", "temporal median", "median times gain")),
    }
    assert 0 < rows["synthetic", "PCP"]["f_measure"] <= 1 and "background_db" not in rows["mine", "PCP"]
    assert rows["synthetic", "gaps"]["left_out_db"] > 0 and "left_out_db" not in rows["synthetic", "NID"]
    assert rows["mine", "temporal median"]["bytes_relative"] == pytest.approx(1 / 8)
    assert (tmp_path / "out" / "synthetic.png").stat().st_size and (tmp_path / "out" / "mine.png").stat().st_size


def test_a_training_is_found_again_with_its_costs(config: Path, tmp_path: Path) -> None:
    comparison = load_comparison(config)
    one, two = (run(comparison, config, tmp_path) for _ in range(2))
    spent = json.loads((config.parent / "runs" / "NID-synthetic.json").read_text())
    for results in (one, two):
        assert results.rows[0]["seconds"] > 0 and results.rows[0]["memory_bytes"] >= spent["memory_bytes"] > 0
        assert results.rows[0]["background_db"] == pytest.approx(one.rows[0]["background_db"], abs=1e-3)


def test_figures_of_the_truth_itself() -> None:
    """Without noise what is left over is the foreground, sharp."""
    clip = synthetic_clip(10, 48, 64, noise=0.0)
    row = figures(Separation(clip.background, 0.002, 0), clip.frames, clip)
    assert row["background_db"] == np.inf and row["f_measure"] > 0.99 and row["f_measure_pausing"] > 0.99


def test_pursuit_of_a_rank_one_clip() -> None:
    """A scene under changing light, with a spot that moves: theory's case, without noise."""
    generator = np.random.default_rng(0)
    scene = 0.2 + 0.5 * generator.random((20, 24, 1))
    background = (scene * (1 + 0.1 * np.sin(np.arange(30)))[:, None, None, None]).astype(np.float32)
    frames, foreground = background.copy(), np.zeros((30, 20, 24), bool)
    for place in range(20):
        foreground[place, 5:9, place : place + 4] = True
    frames[foreground] = 1.0
    clip = Clip(frames, background, foreground, foreground)
    row = figures(by_pursuit(frames).render(), frames, clip)
    assert row["background_db"] > 60 and row["f_measure"] > 0.99
