"""Shipped configurations are found by name, files by path."""

from pathlib import Path

import pytest

import nid_dist
from nid_dist.config import find_config, load_config
from nid_dist.errors import UserError

SHIPPED = Path(nid_dist.__file__).parent / "configs"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("quickstart", "quickstart.yaml"),
        ("images.yaml", "images.yaml"),
        ("configs/images.yaml", "images.yaml"),
        ("large/images_4096", "large/images_4096.yaml"),
        ("baselines/siren", "baselines/siren.yaml"),
    ],
)
def test_names(name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()  # photographs
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == find_config(name, tmp_path) == SHIPPED / file


def test_files_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images.yaml").write_text("training: {steps: 7}")
    assert find_config("images.yaml", tmp_path) == tmp_path / "images.yaml"
    monkeypatch.chdir(tmp_path)
    assert load_config("images.yaml").training.steps == 7
    assert load_config("images").training.steps != 7


def test_nearest_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"quikstart: found no such file, .*; check the path; .* are quickstart, "):
        load_config("quikstart")
    with pytest.raises(UserError, match=r"sirn.yaml: found no such file, .*the nearest names are .*siren"):
        find_config("baselines/sirn.yaml", tmp_path)
    with pytest.raises(UserError, match="reading failed"):
        load_config(str(tmp_path))
