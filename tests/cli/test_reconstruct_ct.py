"""`nid-reconstruct-ct` as a person uses it, with good and bad scans."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from nid_dist.cli.reconstruct_ct import main
from nid_dist.code import load_codes
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.tasks.ct.phantoms import named_phantom

PHANTOM = named_phantom("phantom-00002", 0)


def write(folder: Path, views: int = 8, **changes: Any) -> list[str]:
    sinogram = PHANTOM.sinogram(Geometry.even(views, 17, changes.get("source")))
    measured = Dose(changes.get("photons"), 1.0).measure(sinogram, np.random.default_rng(0))
    np.save(folder / "scan.npy", measured.reshape(views, 17))
    written = {"unit": "degrees", "views": views, "bins": 17, **changes}
    (folder / "geometry.yaml").write_text(yaml.safe_dump(written))
    return ["--sinogram", str(folder / "scan.npy"), "--geometry", str(folder / "geometry.yaml")]


@pytest.mark.parametrize(
    "changes", [{}, {"beam": "fan", "source": 3.0}, {"photons": 1e4}], ids=["plain", "fan", "dose"]
)
def test_reconstructs(
    ct_run: Path, tmp_path: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    scan, out = write(tmp_path, **changes), tmp_path / "new" / "out"
    assert main(["--dictionary", str(ct_run), *scan, "--out", str(out)]) == 0
    names = {"map.npy", "map.png", "ridge.npy", "ridge.png", "back-projection.png", "comparison.png"}
    names |= {"detail.npy", "detail.png", "map-deviation.npy", "map-deviation.png"}
    assert {path.name for path in out.iterdir()} == names | {"codes.safetensors", "results.json"}
    deviation = np.load(out / "map-deviation.npy")
    assert deviation.shape == (17, 17) and deviation[0, 0] == 0 and 0 < deviation[8, 8] < 0.2
    image = np.load(out / "map.npy")
    assert image.shape == (17, 17) and psnr(image, PHANTOM.image(17).astype(np.float32)) > 24
    assert np.abs(np.asarray(Image.open(out / "map.png")) / 255 - image).max() < 0.01
    results = json.loads((out / "results.json").read_text())
    assert results["views"] == 8 and results["photons"] == changes.get("photons")
    assert [row["solver"] for row in results["rows"]] == ["detail", "map", "ridge"]
    assert all(row["nonzeros"] <= 16 and row["residual_rms"] < 0.05 for row in results["rows"])
    assert all(row["chi2_per_ray"] > 0 and row["noise_rms"] > 0 for row in results["rows"])
    assert results["rows"][0]["noise_from"] == ("dose" if "photons" in changes else "scan")
    codes, facts = load_codes(out / "codes.safetensors")
    assert set(codes) == {"detail", "map", "ridge"} and facts["beam"] == changes.get("beam", "parallel")
    said = capsys.readouterr().out
    assert f"wrote {out}" in said and "next: look at" in said and "chi² (per ray)" in said


def test_solvers_and_size(ct_run: Path, tmp_path: Path) -> None:
    given = ["--dictionary", str(ct_run), *write(tmp_path), "--out", str(tmp_path / "out"), "--size", "50"]
    assert main([*given, "--solver", "omp", "fista", "init", "omp"]) == 0
    assert {path.stem for path in (tmp_path / "out").glob("*.npy")} == {"omp", "fista", "init"}
    assert np.load(tmp_path / "out" / "omp.npy").shape == (50, 50)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "1"], "--size: found 1"),
        (["--ridge", "-1"], "--ridge: found -1"),
        (["--model-error", "0"], "--model-error: found 0"),
        (["--sinogram", "nowhere.npy"], "nowhere.npy: found no such file"),
        (["--geometry", "nowhere.yaml"], "nowhere.yaml"),
        (["--dictionary", "nowhere"], "nowhere: found nothing"),
    ],
)
def test_bad_options(
    ct_run: Path, tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["--dictionary", str(ct_run), *write(tmp_path), "--out", str(out), *options]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and not out.exists()


def test_bad_scans_lose_nothing(ct_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, out = write(tmp_path), tmp_path / "out"
    given = ["--dictionary", str(ct_run), *scan, "--out", str(out)]
    values = np.load(tmp_path / "scan.npy")
    for change, words in (
        (values[:, :-1], "an array of shape (8, 16)"),
        (np.where(values > 0.3, np.nan, values), "NaN"),
        (values[:0], "an array of shape (0, 17)"),
        (3 * values + 1, "truncated"),
    ):
        np.save(tmp_path / "scan.npy", change)
        assert main(given) == 2
        assert words in capsys.readouterr().err and not out.exists()
        assert np.array_equal(np.load(tmp_path / "scan.npy"), change, equal_nan=True)
    np.save(tmp_path / "scan.npy", values)
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    assert main(given) == 2
    assert "a folder with files" in capsys.readouterr().err and (out / "mine.txt").read_text() == "kept"


def test_a_dictionary_of_patches(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dictionary", str(run), *write(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "expected one of whole grey images" in capsys.readouterr().err


def test_a_scan_of_the_wrong_sign_is_refused(ct_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = write(tmp_path)
    path = Path(scan[scan.index("--sinogram") + 1])
    np.save(path, -np.load(path))
    assert main(["--dictionary", str(ct_run), *scan, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "the wrong sign" in said and said.endswith("negate it\n") and said.count("\n") == 1


@pytest.mark.parametrize("form", ["stack", "folder"])
def test_many_slices_in_one_call(ct_run: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    scan = write(tmp_path)
    one = np.load(tmp_path / "scan.npy")
    path = tmp_path / "many"
    if form == "folder":
        path.mkdir()
        for name in ("a", "b"):
            np.save(path / f"{name}.npy", one)
    else:
        path = path.with_suffix(".npy")
        np.save(path, np.stack([one, one]))
    given = ["--dictionary", str(ct_run), "--sinogram", str(path), *scan[2:], "--out", str(tmp_path / "out")]
    assert main([*given, "--solver", "detail", "map"]) == 0
    names = ["a", "b"] if form == "folder" else ["slice-00000", "slice-00001"]
    volume = np.load(tmp_path / "out" / "detail.npy")
    assert volume.shape == (2, 17, 17) and np.array_equal(volume[0], volume[1])
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [(row["slice"], row["solver"]) for row in rows] == [(n, s) for n in names for s in ("detail", "map")]
    assert all((tmp_path / "out" / name / "codes.safetensors").is_file() for name in names)
    code = load_codes(tmp_path / "out" / names[0] / "codes.safetensors")[0]["detail"]
    assert code.detail is not None and "2 of 2 slices" in capsys.readouterr().out


def test_a_bad_slice_of_a_stack_is_named(ct_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = write(tmp_path)
    one = np.load(tmp_path / "scan.npy")
    for values, words in (
        (np.stack([one, np.where(one > 0.3, np.nan, one)]), "many.npy, slice 1: found"),
        (np.zeros((0, 8, 17)), "expected slices"),
    ):
        np.save(tmp_path / "many.npy", values)
        given = ["--dictionary", str(ct_run), "--sinogram", str(tmp_path / "many.npy"), *scan[2:]]
        assert main([*given, "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1


def test_what_is_unlike_is_said_in_a_line(ct_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    geometry = Geometry.even(16, 17)
    lengths = 2 * (1 - geometry.lines[1].square()).clamp_min(0).sqrt().numpy()
    given = write(tmp_path, 16)
    np.save(tmp_path / "scan.npy", 0.9 * lengths.reshape(16, 17))
    assert main(["--dictionary", str(ct_run), *given, "--out", str(tmp_path / "out")]) == 0
    assert "unlike the training data: mostly detail" in capsys.readouterr().out
