"""The report: every image gets its own folder, one that fails costs none of the others."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nid_dist
from nid_dist.code import load_codes
from nid_dist.coding.method import Method
from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.model import Model
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.report import report_images
from nid_dist.tasks.images.tiling import Tiling
from tests.tiny import picture

METHODS = [Method("init"), Method("omp")]


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return nid_dist.load(run)


def pixels(seed: int) -> ImageArray:
    return picture(seed, 13, 18).astype(np.float32) / 255


def named(*names: str) -> list[tuple[str, Callable[[], ImageArray]]]:
    return [(name, lambda seed=seed: pixels(seed)) for seed, name in enumerate(names)]


def broken() -> ImageArray:
    raise UserError("bad.png", found="nothing good", expected="an image", hint="remove it")


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("stride", [None, 4])
def test_codes_reproduce_the_written_picture(model: Model, tmp_path: Path, stride: int | None) -> None:
    report = report_images(model, named("one.png"), METHODS, tmp_path, stride=stride, scale=1.5, command="c")
    folder = tmp_path / "one"
    assert sorted(path.name for path in folder.iterdir()) == [
        "codes.safetensors",
        "comparison.png",
        "init.png",
        "map-x1.5.png",
        "omp.png",
    ]
    codes, facts = load_codes(folder / "codes.safetensors")
    assert (facts["height"], facts["width"], facts["patch"], facts["stride"]) == (13, 18, 8, stride or 8)
    tiling = Tiling(facts["height"], facts["width"], facts["patch"], facts["stride"])
    for label, row in zip(("init", "omp"), report.rows, strict=True):
        with torch.no_grad():
            f = tiling.assemble(model.dictionary(codes[label], tiling.coords)).clamp(0, 1).numpy()
        written = np.asarray(Image.open(folder / f"{label}.png"))
        assert np.abs(np.rint(255 * f) - written).max() <= 1
        assert row["psnr_db"] == pytest.approx(psnr(f, pixels(0)), abs=1e-3)
        assert row["nonzeros_per_signal"] <= 4
        assert row["bytes_per_signal"] == 4 * (2 + 4) + 3 * 4
    assert Image.open(folder / "map-x1.5.png").size == (27, 20)


def test_table_and_results_agree(model: Model, tmp_path: Path) -> None:
    report = report_images(model, named("a.png", "b.png"), METHODS, tmp_path, command="the command")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["command"] == "the command" and results["failed"] == {}
    assert [(row["image"], row["solver"]) for row in results["rows"]] == [
        ("a.png", "init"),
        ("a.png", "omp"),
        ("b.png", "init"),
        ("b.png", "omp"),
    ]
    for mean in results["means"]:
        own = [row["psnr_db"] for row in results["rows"] if row["solver"] == mean["solver"]]
        assert mean["psnr_db"] == pytest.approx(sum(own) / 2)
    text = (tmp_path / "table.md").read_text()
    assert "`the command`" in text and text.count("\n|") == 2 + 4 + 2
    assert report.table.markdown() in text


@pytest.mark.usefixtures("quick_figures")
def test_names_become_folders_that_differ(model: Model, tmp_path: Path) -> None:
    names = ("a.png", "a.jpg", "sub/a.png", "sub/b.c.png", "../../up.png", "/etc/x.png", "a")
    report_images(model, named(*names), [Method("omp")], tmp_path / "out", command="")
    written = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("codes.safetensors")}
    assert written == {f"out/{name}" for name in ("a", "a.jpg", "sub/a", "sub/b.c", "up", "etc/x", "a-2")}


@pytest.mark.usefixtures("quick_figures")
def test_a_failing_image_costs_only_itself(model: Model, tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a file where a folder must be")
    images = [*named("a.png"), ("bad.png", broken), *named("b.png", "c.png")]
    report = report_images(model, images, METHODS, tmp_path, command="")
    assert {row["image"] for row in report.rows} == {"a.png", "b.png"}
    assert list(report.failed) == ["bad.png", "c.png"]
    assert report.failed["bad.png"].startswith("bad.png: found nothing good")
    assert json.loads((tmp_path / "results.json").read_text())["failed"] == report.failed
    assert "nothing good" in (tmp_path / "table.md").read_text()


@pytest.mark.usefixtures("quick_figures")
def test_what_was_done_before_an_interruption_is_kept(model: Model, tmp_path: Path) -> None:
    def interrupted() -> ImageArray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report_images(model, [*named("a.png"), ("b.png", interrupted)], METHODS, tmp_path, command="")
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 2


def test_a_scale_beyond_all_memory_is_refused_for_the_image(model: Model, tmp_path: Path) -> None:
    report = report_images(model, named("a.png"), METHODS, tmp_path, scale=10_000.0, command="")
    assert "a.png: the size to render: found 130000x180000 pixels" in report.failed["a.png"]
    assert not (tmp_path / "a").exists()
