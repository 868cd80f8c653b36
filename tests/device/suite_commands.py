"""Every command on the device: the same files as on the CPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nid_dist.cli import compare, decompose, evaluate, fit, inpaint, reconstruct, reconstruct_ct
from nid_dist.device import AUTO_VARIABLE
from tests.cli.test_reconstruct import cloud
from tests.cli.test_reconstruct_ct import write as write_scan
from tests.device import simulated  # noqa: F401  # registers the device
from tests.device.same import EXACT, assert_same_folders

Main = Callable[[list[str]], int]


def assert_alike(main: Main, folder: Path, *given: str | Path, tolerance: float = EXACT) -> None:
    outs = [folder / device for device in ("cpu", "sim")]
    for device, out in zip(("cpu", "sim"), outs, strict=True):
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv(AUTO_VARIABLE, device)
            assert main([*map(str, given), "--out", str(out), "--device", device]) == 0
    assert_same_folders(*outs, tolerance)


@pytest.mark.usefixtures("quick_figures")
def test_fit_by_every_method(run: Path, images: Path, tmp_path: Path) -> None:
    given = ["--dictionary", run, "--input", images / "e.png", "--solver"]
    methods = ["init", "adam", "ridge", "omp", "fista", "irls", "map"]
    assert_alike(fit.main, tmp_path, *given, *methods, "--stride", "4", "--scale", "2")


@pytest.mark.usefixtures("quick_figures")
def test_evaluate(run: Path, tmp_path: Path) -> None:
    assert_alike(evaluate.main, tmp_path, "--dictionary", run, "--split", "test")


@pytest.mark.parametrize("options", [["--corrupt", "text"], ["--corrupt", "text", "--blind"]])
def test_inpaint(run: Path, images: Path, tmp_path: Path, options: list[str]) -> None:
    given = ["--dictionary", run, "--input", images / "e.png", *options, "--against", "biharmonic"]
    assert_alike(inpaint.main, tmp_path, *given)


def test_reconstruct_a_scan(ct_run: Path, tmp_path: Path) -> None:
    solvers = ["map", "ridge", "omp", "fista", "init"]
    given = ["--dictionary", ct_run, *write_scan(tmp_path), "--solver", *solvers, "--size", "20"]
    assert_alike(reconstruct_ct.main, tmp_path, *given)


@pytest.mark.parametrize("normals", [True, False])
def test_reconstruct_a_surface(chain: Path, tmp_path: Path, normals: bool) -> None:
    points, mesh = cloud(chain, 200)
    np.save(tmp_path / "cloud.npy", points if normals else points[:, :3])
    given = ["--dictionary", chain / "run", "--points", tmp_path / "cloud.npy", "--resolution", "16", "--truth", mesh]
    # A device adds up in another order, and conjugate gradients go on from what it found.
    assert_alike(reconstruct.main, tmp_path, *given, *(["--normals"] if normals else []), tolerance=1e-3)


def test_decompose(video_run: Path, tmp_path: Path) -> None:
    assert_alike(decompose.main, tmp_path, "--run", video_run / "run", "--lossless")


@pytest.mark.parametrize(
    ("kind", "given"), [("images", ["sides=[16]", "limit=1"]), ("inpainting", ["corruptions=[text]", "kept=[0.5]"])]
)
def test_compare_images(folder: Path, tmp_path: Path, kind: str, given: list[str]) -> None:
    assert_alike(compare.main, tmp_path, "--config", folder / f"{kind}.yaml", "--set", *given)


def test_compare_scans(config: Path, tmp_path: Path) -> None:
    few = ["views=[4]", "photons=[null]", "slices=[]", "phantoms=1", "seconds=1e-6"]
    assert_alike(compare.main, tmp_path, "--config", config, "--set", *few)
