"""`nid-decompose` from a run to a folder of videos, pictures and figures; and what it says when it cannot."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import nid_dist
from nid_dist.cli.decompose import main
from nid_dist.tasks.video.comparison import write_clip
from nid_dist.tasks.video.config import VideoSection
from nid_dist.tasks.video.frames import Video
from nid_dist.tasks.video.synthetic_clip import synthetic_clip
from nid_dist.training.run import train
from tests.tasks.video.decomposition.conftest import configured
from tests.tiny import tiny


@pytest.fixture(scope="module")
def video_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on twelve frames; its video lies beside it."""
    folder = tmp_path_factory.mktemp("decompose")
    write_clip(synthetic_clip(12, 48, 64), folder / "clip")
    short = ["training.steps=20", "dictionary.width=16", "signals.video={missing_pixels: 0.2, missing_frames: 0.1}"]
    train(configured(folder, *short))
    return folder


def read(path: Path) -> Video:
    return Video(VideoSection.model_validate({"source": "video", "path": str(path)}))


def test_everything(video_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["--run", str(video_run / "run"), "--out", str(out), "--lossless"]) == 0
    told = capsys.readouterr().out
    assert "side_by_side.mkv" in told and "next: look at" in told
    videos = {name: read(out / f"{name}.mkv") for name in ("side_by_side", "background", "transients", "foreground")}
    assert {len(video) for video in videos.values()} == {12}
    assert videos["side_by_side"].grid_shape == (48, 256) and videos["background"].grid_shape == (48, 64)
    # Lossless but for rounding to 8 bits: background and transients (around mid grey) add up to the video.
    both = videos["background"].read([5]) + videos["transients"].read([5]) - 0.5
    inside = (videos["transients"].read([5]) > 0.01) & (videos["transients"].read([5]) < 0.99)
    inside &= (videos["background"].read([5]) > 0.01) & (videos["background"].read([5]) < 0.99)
    frames = read(video_run / "clip").read([5])
    np.testing.assert_allclose(both[inside], frames[inside], atol=1.5 / 255)
    figures = json.loads((out / "decomposition.json").read_text())
    assert figures["frames"] == 12 and figures["frames_fitted"] == 11 and figures["background_components"]
    assert figures["left_out_db"] > 5 and figures["left_out_still_db"] > 5
    codes = load_file(out / "codes.safetensors")
    assert codes["coefficients"].shape == (11, len(codes["experts"])) and codes["activations"].shape == (11, 4)
    assert nid_dist.load(out / "dictionary").signals == 12
    assert (out / "overview.png").stat().st_size and (out / "components.png").stat().st_size
    assert not list(out.glob(".*"))


def test_any_rate_and_size(video_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["--run", str(video_run / "run"), "--out", str(out), "--fps", "50", "--size", "30x41"]) == 0
    video = read(out / "background.mp4")
    assert len(video) == 23 and video.grid_shape == (30, 42) and video.rate == pytest.approx(50, rel=1e-3)
    assert "left_out_db" not in json.loads((out / "decomposition.json").read_text())


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--size", "big"], "--size: found big"),
        (["--size", "0x10"], "--size"),
        (["--fps", "-1"], "--fps: found -1"),
        (["--input", "elsewhere"], "found nothing"),
    ],
)
def test_wrong_options(
    video_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], found: str
) -> None:
    assert main(["--run", str(video_run / "run"), "--out", str(tmp_path / "out"), *options]) == 2
    told = capsys.readouterr().err
    assert found in told and told.count("\n") == 1 and not (tmp_path / "out").exists()


def test_another_video(video_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(synthetic_clip(9, 48, 64), tmp_path / "other")
    given = ["--run", str(video_run / "run"), "--out", str(tmp_path / "out")]
    assert main([*given, "--input", str(tmp_path / "other")]) == 2
    assert "found 9 frames of 48x64, expected 12 of 48x64" in capsys.readouterr().err


def test_a_dictionary_of_images(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tiny(images, tmp_path / "run", "training.steps=1"))
    assert main(["--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 2
    assert "expected one of video" in capsys.readouterr().err
