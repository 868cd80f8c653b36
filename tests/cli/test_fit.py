"""`nid-fit` as a person uses it, with good, odd and bad images."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nid_dist.cli.fit import main
from nid_dist.training.run import train
from tests.tiny import picture, tiny

pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several kinds and sizes; not to be written to."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "sub").mkdir()
    Image.fromarray(picture(7, 20, 29)).save(folder / "photo.png")
    Image.fromarray(picture(8, 17, 16)).save(folder / "sub" / "photo.jpg")
    Image.fromarray(picture(8, 9, 9)[..., 0]).save(folder / "sub" / "grey.png")
    Image.new("RGB", (1, 1), (200, 10, 30)).save(folder / "pixel.png")
    np.save(folder / "array.npy", picture(9, 5, 40).astype(np.float32) / 255)
    return folder


@pytest.fixture(scope="module")
def gateless(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gateless") / "run"
    train(tiny(images, folder, "coding.gate.kind=codebook", "coding.phases=[{mode: solve}]", "training.steps=2"))
    return folder


def fit(dictionary: Path, out: Path, *arguments: str | Path) -> int:
    return main(["--dictionary", str(dictionary), "--out", str(out), "--input", *map(str, arguments)])


def rows(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    results = json.loads((out / "results.json").read_text())
    # An exact fit has an infinite PSNR, which JSON has as a word.
    return {(row["image"], row["solver"]): row | {"psnr_db": float(row["psnr_db"])} for row in results["rows"]}


def test_a_folder_of_all_kinds(run: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "out"
    assert fit(run, out, inputs, "--scale", "2") == 0
    captured = capsys.readouterr()
    table = rows(out)
    names = ["array.npy", "photo.png", "pixel.png", "sub/grey.png", "sub/photo.jpg"]
    assert [name for name, solver in table if solver == "omp"] == names
    assert {solver for _, solver in table} == {"init", "adam5", "adam10", "ridge", "omp"}
    for name in names:
        assert table[name, "ridge"]["psnr_db"] >= min(60, table[name, "init"]["psnr_db"] - 0.1)
        assert table[name, "omp"]["nonzeros_per_signal"] <= 4
        folder = out / Path(name).with_suffix("")
        assert {path.name for path in folder.iterdir()} >= {
            "codes.safetensors",
            "comparison.png",
            "omp.png",
            "map-x2.png",
        }
    gains = [table[name, "omp"]["psnr_db"] - table[name, "ridge"]["psnr_db"] for name in names if name != "pixel.png"]
    assert np.mean(gains) > 0
    assert Image.open(out / "photo" / "map-x2.png").size == (58, 40)
    assert np.asarray(Image.open(out / "pixel" / "omp.png")).tolist() == [[[200, 10, 30]]]
    # On a busy machine it is said that the fits go on.
    assert all(line.startswith("fitting:") for line in captured.err.splitlines())
    assert f"wrote {out}" in captured.out and "next: " in captured.out
    assert (out / "table.md").read_text().startswith("`nid-fit --dictionary ")


def test_single_files_of_equal_names_stay_apart(run: Path, inputs: Path, tmp_path: Path) -> None:
    shutil.copy(inputs / "photo.png", tmp_path / "photo.png")
    out = tmp_path / "out"
    assert fit(run, out, inputs / "photo.png", tmp_path / "photo.png", "--solver", "omp") == 0
    assert [name for name, _ in rows(out)] == ["0-photo.png", "1-photo.png"]


@pytest.mark.parametrize(
    ("given", "solvers"),
    [
        (["--solver", "omp"], ["omp"]),
        (["--solver", "omp", "--blocks", "2"], ["omp2"]),
        (["--solver", "adam"], ["adam10"]),
        (["--solver", "adam", "ridge", "adam", "--steps", "3"], ["adam3", "ridge"]),
        (["--steps", "7"], ["init", "adam7", "ridge", "omp"]),
    ],
)
def test_solvers(run: Path, inputs: Path, tmp_path: Path, given: list[str], solvers: list[str]) -> None:
    assert fit(run, tmp_path / "out", inputs / "photo.png", *given) == 0
    assert [solver for _, solver in rows(tmp_path / "out")] == solvers


def test_overlap_blends(run: Path, inputs: Path, tmp_path: Path) -> None:
    for stride in (8, 3):
        given = [inputs / "photo.png", "--solver", "omp", "--stride", str(stride)]
        assert fit(run, tmp_path / str(stride), *given) == 0
    plain, blended = (rows(tmp_path / name)["photo.png", "omp"]["psnr_db"] for name in ("8", "3"))
    assert blended > plain


def test_without_a_gate_only_omp_is_offered(gateless: Path, inputs: Path, tmp_path: Path) -> None:
    assert fit(gateless, tmp_path / "out", inputs / "photo.png") == 0
    assert [solver for _, solver in rows(tmp_path / "out")] == ["omp"]


def test_a_grey_dictionary_reads_colours_as_grey(images: Path, inputs: Path, tmp_path: Path) -> None:
    train(tiny(images, tmp_path / "run", "signals.colour=grey", "training.steps=2"))
    assert fit(tmp_path / "run", tmp_path / "out", inputs / "photo.png", inputs / "sub" / "grey.png") == 0
    assert Image.open(tmp_path / "out" / "photo" / "omp.png").mode == "L"


def test_a_dictionary_of_whole_images_takes_any_size(images: Path, inputs: Path, tmp_path: Path) -> None:
    train(
        tiny(images, tmp_path / "run", "signals.patch=null", "signals.size=16", "training.batch=3", "training.steps=2")
    )
    assert fit(tmp_path / "run", tmp_path / "out", inputs, "--scale", "1.5") == 0
    assert len({name for name, _ in rows(tmp_path / "out")}) == 5


def test_one_bad_image_costs_only_itself(
    run: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "inputs"
    shutil.copytree(inputs, copy)
    (copy / "broken.png").write_bytes((inputs / "photo.png").read_bytes()[:100])
    (copy / "empty.jpg").touch()
    np.save(copy / "nan.npy", np.full((9, 9), np.nan))
    assert fit(run, tmp_path / "out", copy, "--solver", "omp") == 2
    captured = capsys.readouterr()
    assert len(rows(tmp_path / "out")) == 5 and "photo.png" in captured.out
    lines = [line for line in captured.err.splitlines() if not line.startswith("fitting: ")]  # of a slow machine
    assert len(lines) == 4 and all(line.startswith("nid-fit: error: ") for line in lines)
    for line, name in zip(lines, ("broken.png", "empty.jpg", "nan.npy", "3 of 8 images"), strict=False):
        assert name in line


BAD = {
    "no dictionary": (["--dictionary", "nowhere"], "nowhere: found nothing"),
    "a dictionary that is none": (
        ["--dictionary", "."],
        "expected a run folder, a checkpoint or an exported dictionary",
    ),
    "unknown solver": (["--solver", "sgd"], "--solver: found 'sgd'"),
    "no steps": (["--steps", "0"], "--steps: found 0"),
    "negative blocks": (["--blocks", "-1"], "--blocks"),
    "ridge nan": (["--ridge", "nan"], "--ridge: found nan"),
    "scale zero": (["--scale", "0"], "--scale"),
    "stride zero": (["--stride", "0"], "--stride: found 0, expected 1 to 8"),
    "stride too large": (["--stride", "9"], "--stride: found 9, expected 1 to 8"),
    "no input": (["--input", "missing.png"], "missing.png: found nothing"),
    "a folder without images": (["--input", "empty"], "empty: found no image"),
    "existing output": (["--out", "full"], "--out full: found a folder with files"),
    "output is a file": (["--out", "full/kept"], "--out full/kept: found File exists"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(
    run: Path,
    inputs: Path,
    tmp_path: Path,
    case: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("mine")
    given, message = BAD[case]
    assert fit(run, tmp_path / "out", inputs / "photo.png", *given) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "full", "kept"]
    assert (tmp_path / "full" / "kept").read_text() == "mine"


@pytest.mark.parametrize("solver", ["init", "adam", "ridge"])
def test_a_gate_that_is_not_there_is_said_before_anything_is_made(
    gateless: Path, inputs: Path, tmp_path: Path, solver: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(gateless, tmp_path / "out", inputs, "--solver", solver) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "found coding.gate.kind 'codebook'" in error and "--solver omp" in error
    assert not (tmp_path / "out").exists()


def test_stride_of_whole_images_is_refused(
    images: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        tiny(images, tmp_path / "run", "signals.patch=null", "signals.size=16", "training.batch=3", "training.steps=1")
    )
    capsys.readouterr()
    assert fit(tmp_path / "run", tmp_path / "out", inputs, "--stride", "4") == 2
    assert "a whole image; leave it out" in capsys.readouterr().err


def test_what_is_unlike_the_training_signals_is_doubted(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 2, (32, 32, 3), dtype=np.uint8) * 255).save(noise)
    assert fit(run, tmp_path / "good", images / "e.png", "--solver", "omp") == 0
    captured = capsys.readouterr()
    assert "e.png: explained to " in captured.out and "times the validation data's" in captured.out
    assert captured.err == ""
    assert fit(run, tmp_path / "bad", noise, "--solver", "omp") == 0
    assert "nid-fit: warning: noise.png: not to be trusted: " in capsys.readouterr().err
    (row,) = json.loads((tmp_path / "bad" / "results.json").read_text())["rows"]
    assert row["doubts"] and row["times_expected"] > 1


def test_detail_of_whole_images(
    images: Path, run: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny(images, tmp_path / "run", "signals.patch=null", "signals.stride=null", "signals.size=12"))
    for out, options in (("plain", []), ("fine", ["--detail", "40"])):
        assert fit(tmp_path / "run", tmp_path / out, inputs / "photo.png", "--solver", "omp", *options) == 0
    plain, fine = (rows(tmp_path / out)["photo.png", "omp"] for out in ("plain", "fine"))
    assert fine["psnr_db"] > plain["psnr_db"] + 3 and (plain["detail_numbers"], fine["detail_numbers"]) == (0, 40)
    assert fine["bytes_per_image"] == plain["bytes_per_image"] + 8 * 40
    capsys.readouterr()
    assert fit(run, tmp_path / "no", inputs, "--detail", "40") == 2
    assert "--detail: found 40 with a dictionary of patches" in capsys.readouterr().err
    assert fit(run, tmp_path / "no", inputs, "--detail", "40", "--store", "compact") == 2
    assert "--detail: found with --store compact" in capsys.readouterr().err
