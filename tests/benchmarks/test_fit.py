"""The benchmark of fitting measures what it should, on tiny dictionaries."""

import math
from pathlib import Path

import numpy as np
import pytest

from nid_dist.benchmarks import fit
from nid_dist.coding.method import Method
from tests.tiny import picture, write_sizes

METHODS = (Method("init"), Method("adam", 10), Method("ridge"), Method("omp", 32))


def test_quick_run(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sizes(tmp_path)
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "siren.yaml").write_text("{kind: siren, width: 8, hidden_layers: 1, output: unit}")
    dictionaries = (
        "[{name: patches k=4, config: tiny.yaml}, "
        "{name: whole k=4, config: tiny.yaml, whole: true, set: [signals.patch=12, signals.stride=4]}]"
    )
    (tmp_path / "compare.yaml").write_text(
        f"task: images\nset: [signals.path={images}]\ndictionaries: {dictionaries}\nrun_dir: {tmp_path}/runs\n"
    )
    for name, value in {"CONFIG": tmp_path / "compare.yaml", "METHODS": METHODS, "NETWORKS": ("siren",)}.items():
        monkeypatch.setattr(fit, name, value)
    monkeypatch.setattr(fit, "_SIDE", 24)
    monkeypatch.setattr(fit, "_SUPPORT", 4)
    figures, table = fit.run(quick=True)
    for prefix in ("", "patches_"):
        for label in ("init", "adam10", "ridge", "omp32"):
            assert 5 < figures[f"{prefix}db_{label}"] < 60 and figures[f"{prefix}{label}_images_per_second"] > 0
        assert figures[f"{prefix}db_ridge"] >= figures[f"{prefix}db_adam10"] - 1e-3
        assert math.isfinite(figures[f"{prefix}siren_time_ratio"]) and figures[f"{prefix}siren_seconds"] < 5
    assert len(table.rows) == 2 * (len(METHODS) + 1)
    assert not (tmp_path / "runs").exists()  # what is trained so little is not kept


def test_squares_are_wholes_and_quarters() -> None:
    photograph = (picture(0, 256, 320) / 255).astype(np.float32)
    found = fit.squares([photograph, photograph[:, ::-1]], 4)
    assert [image.shape for image in found] == [(128, 128, 3)] * 4
    np.testing.assert_allclose(found[2], photograph[:128, :128])
