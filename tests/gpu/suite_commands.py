"""Every command once on a GPU."""

import json
from pathlib import Path

import numpy as np
import pytest

from nid_dist.cli import benchmark, compare, decompose, evaluate, export, fit, inpaint, reconstruct, reconstruct_ct
from nid_dist.cli.train import main as train
from tests.cli.test_reconstruct import cloud
from tests.cli.test_reconstruct_ct import write as write_scan
from tests.tiny import write_sizes


def test_train(images: Path, device: str, tmp_path: Path) -> None:
    given = [f"signals.path={images}", f"logging.run_dir={tmp_path / 'run'}", f"parallel.device={device}"]
    assert train(["--config", str(write_sizes(tmp_path)), "--single-process", "--set", *given]) == 0
    assert export.main(["--dictionary", str(tmp_path / "run"), "--out", str(tmp_path / "export")]) == 0


@pytest.mark.usefixtures("quick_figures")
def test_fit_and_evaluate(run: Path, images: Path, device: str, tmp_path: Path) -> None:
    on = ["--dictionary", str(run), "--device", device]
    methods = ["init", "adam", "ridge", "omp", "fista", "irls", "map"]
    given = ["--input", str(images / "e.png"), "--stride", "4", "--solver", *methods, "--out", str(tmp_path / "fit")]
    assert fit.main([*on, *given]) == 0
    assert evaluate.main([*on, "--split", "test", "--out", str(tmp_path / "evaluate")]) == 0


@pytest.mark.parametrize("more", [[], ["--blind"]])
def test_inpaint(run: Path, images: Path, device: str, tmp_path: Path, more: list[str]) -> None:
    given = ["--dictionary", str(run), "--device", device, "--input", str(images / "e.png"), "--corrupt", "text"]
    assert inpaint.main([*given, *more, "--out", str(tmp_path / "out")]) == 0


def test_reconstruct_ct(ct_run: Path, device: str, tmp_path: Path) -> None:
    solvers = ["map", "ridge", "omp", "fista", "init"]
    given = ["--dictionary", str(ct_run), *map(str, write_scan(tmp_path)), "--solver", *solvers]
    assert reconstruct_ct.main([*given, "--device", device, "--out", str(tmp_path / "out")]) == 0


def test_reconstruct(chain: Path, device: str, tmp_path: Path) -> None:
    points, mesh = cloud(chain, 200)
    np.save(tmp_path / "cloud.npy", points)
    given = ["--dictionary", str(chain / "run"), "--points", str(tmp_path / "cloud.npy"), "--normals"]
    given += ["--resolution", "16", "--truth", str(mesh), "--device", device, "--out", str(tmp_path / "out")]
    assert reconstruct.main(given) == 0


def test_decompose(video_run: Path, device: str, tmp_path: Path) -> None:
    assert decompose.main(["--run", str(video_run / "run"), "--device", device, "--out", str(tmp_path / "out")]) == 0


def test_compare(folder: Path, device: str, tmp_path: Path) -> None:
    given = ["--config", str(folder / "images.yaml"), "--set", "sides=[16]", "limit=1"]
    assert compare.main([*given, "--device", device, "--out", str(tmp_path / "out")]) == 0


def test_benchmark(device: str, tmp_path: Path) -> None:
    path = tmp_path / "step.json"
    assert benchmark.main(["step", "--quick", "--device", device, "--json", str(path)]) == 0
    assert json.loads(path.read_text())["figures"]
