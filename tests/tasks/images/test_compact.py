"""Images in few bytes, by the command and beside WebP and JPEG."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nid_dist
from nid_dist.cli.fit import main
from nid_dist.coding.method import Method
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.export import load
from nid_dist.tasks.images.compact import Compactness, compact
from nid_dist.tasks.images.compression import encoded
from nid_dist.tasks.images.fit import fit_image
from tests.tiny import picture


def fit(run: Path, out: Path, *arguments: str) -> int:
    image = out.parent / "photo.png"
    Image.fromarray(picture(7, 24, 40)).save(image)
    return main(["--dictionary", str(run), "--out", str(out), "--input", str(image), *arguments])


def row(out: Path, solver: str) -> dict[str, float]:
    rows: list[dict[str, float]] = json.loads((out / "results.json").read_text())["rows"]
    return next(each for each in rows if str(each["solver"]) == solver)


def test_a_tenth_of_a_decibel(run: Path, tmp_path: Path) -> None:
    assert fit(run, tmp_path / "full") == 0 and fit(run, tmp_path / "few", "--store", "compact") == 0
    for solver in ("omp", "ridge", "init"):
        full, few = (row(tmp_path / name, solver) for name in ("full", "few"))
        assert full["psnr_db"] - 0.1 <= few["psnr_db"] <= full["psnr_db"] + 0.05
        path = tmp_path / "few" / "photo" / f"{solver}.nidc"
        assert few["bytes_per_image"] == path.stat().st_size < full["bytes_per_image"] + 60
        codes, facts = nid_dist.load_codes(path)
        assert facts["height"] == 24 and facts["width"] == 40 and facts["image"] == "photo.png"
        assert (codes[solver].values != 0).sum(1).max() == few["nonzeros_per_signal"]
    assert not list((tmp_path / "few").rglob("codes.safetensors"))


def test_the_picture_of_the_file(run: Path, tmp_path: Path) -> None:
    """Codes that are read again make, to the bit, the picture whose quality was said."""
    model, image = load(run), picture(7, 24, 40).astype(np.float32) / 255
    one = fit_image(model, image, [Method("omp")])["omp"]
    found = compact(one, Compactness(step=0.3))
    assert found.quantized.step == 0.3 and found.psnr == pytest.approx(psnr(found.picture, image))
    assert fit(run, tmp_path / "out", "--store", "compact", "--solver", "omp", "--step", "0.3") == 0
    code = nid_dist.load_codes(tmp_path / "out" / "photo" / "omp.nidc")[0]["omp"]
    values = model.evaluate(code, one.tiling.coords.to(model.device))
    np.testing.assert_array_equal(one.tiling.assemble(values).clamp(0, 1).cpu().numpy(), found.picture)


def test_a_quality(run: Path, tmp_path: Path) -> None:
    for wanted in (22.0, 26.0):
        out = tmp_path / f"{wanted:g}"
        assert fit(run, out, "--store", "compact", "--psnr", str(wanted)) == 0
        assert wanted <= row(out, "omp")["psnr_db"] < wanted + 0.5
    assert row(tmp_path / "22", "omp")["bytes_per_image"] < row(tmp_path / "26", "omp")["bytes_per_image"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--step", "0.1"], "--step: found with codes in full"),
        (["--psnr", "30"], "--psnr: found with codes in full"),
        (["--store", "compact", "--psnr", "30", "--step", "1"], "--step: found with --psnr"),
        (["--store", "compact", "--psnr", "30", "--solver", "ridge"], "--psnr: found with --solver ridge"),
        (["--store", "compact", "--step", "0"], "--step: found 0"),
    ],
)
def test_what_does_not_go_together(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert fit(run, tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_formats_at_a_quality() -> None:
    image = picture(3, 48, 48).astype(np.float32) / 255
    for kind in ("JPEG", "WEBP"):
        low, high = (encoded(image, kind, decibels) for decibels in (20.0, 24.0))
        assert psnr(low[1], image) >= 20 and len(low[0]) <= len(high[0])
        best = encoded(image, kind, 99.0)
        assert psnr(best[1], image) >= psnr(high[1], image)
