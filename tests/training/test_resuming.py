"""A run goes on with the configuration that it has, or says what of it has changed; weights fit with their own k."""

import json
import os
from pathlib import Path

import pytest
import yaml

from nid_dist.config import load_config
from nid_dist.config.recording import changes, recorded
from nid_dist.errors import UserError
from nid_dist.export import export, load
from nid_dist.training.run import train
from tests.tiny import tiny, write_pictures

GIVEN = ["training.steps=2", "coding.phases=[{mode: solve}]"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Images, and a finished run on them."""
    folder = tmp_path_factory.mktemp("resuming")
    images = write_pictures(folder / "images")
    train(tiny(images, folder / "run", *GIVEN))
    return images, folder / "run"


def contents(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("steps", [2, 3], ids=["finished", "to be trained on"])
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("coding.support=3", "coding.support: found 3 in the configuration, expected 4, which it was trained with"),
        ("signals.val=0.5", "signals.val: found 0.5 in the configuration"),
        ("dictionary.omega=7", "dictionary.omega: found 7.0 in the configuration, expected 30.0"),
    ],
)
def test_another_dictionary_is_refused(trained: tuple[Path, Path], override: str, said: str, steps: int) -> None:
    images, run = trained
    before = contents(run)
    with pytest.raises(UserError, match=said) as caught:
        train(tiny(images, run, *GIVEN, override, f"training.steps={steps}"), "auto")
    assert "\n" not in str(caught.value) and contents(run) == before


def test_a_finished_run_stays_what_was_trained(trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    images, run = trained
    before = contents(run)
    train(tiny(images, run, *GIVEN, "optimizer.lr=0.5", "logging.log_every=7"), "auto")
    assert contents(run) == before, "with what validation has measured in it"
    assert json.loads((run / "model.json").read_text())["validation"]
    assert "nothing is left to be trained with what the configuration has changed: optimizer.lr" in (
        capsys.readouterr().err
    )


def test_what_changes_the_course_is_said_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, run = write_pictures(tmp_path / "images"), tmp_path / "run"
    train(tiny(images, run, *GIVEN))
    train(tiny(images, run, *GIVEN, "training.steps=3", "optimizer.lr=0.002", "parallel.device=cpu"), "auto")
    assert "trained otherwise from step 2 on: optimizer.lr 0.001 -> 0.002" in capsys.readouterr().err
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    (line,) = (line for line in lines if line["event"] == "changed")
    assert line["step"] == 2 and line["optimizer.lr"] == "0.001 -> 0.002" and line["training.steps"] == "2 -> 3"
    assert load_config(run / "config.yaml").training.steps == 3
    assert load_config(run / "config.1.yaml").training.steps == 2


def test_a_configuration_beside_weights_of_another_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = trained
    export(load(run), str(tmp_path / "exported"))
    for folder in (tmp_path / "exported", run):
        path = folder / "config.yaml"
        text = path.read_text()
        changed = yaml.safe_load(text)
        changed["coding"]["support"] = 3
        path.write_text(yaml.safe_dump(changed))
        try:
            with pytest.raises(UserError, match=r"config.yaml: coding.support: found 3 .*, expected 4"):
                load(folder)
            changed["coding"]["support"] = 4
            changed["signals"]["path"] = "/moved"
            path.write_text(yaml.safe_dump(changed))
            assert load(folder).support == 4
        finally:
            path.write_text(text)


def test_a_run_knows_its_signals_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_pictures(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    given = [*GIVEN, "signals.path=images", "logging.run_dir=~/run"]
    config = tiny(images, tmp_path, *given)
    train(config)
    assert not Path("~").exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    kept = load("~/run").config
    assert kept.signals.path == str(images) and kept.logging.run_dir == str(tmp_path / "run")  # type: ignore[union-attr]
    assert load_config("~/run/config.yaml") == kept
    # The same, named from another folder.
    there = tiny(images, tmp_path, *GIVEN, f"signals.path={os.path.relpath(images)}", "logging.run_dir=../run")
    assert changes(kept, there) == [] and recorded(there) == kept
    assert train(there, "auto").figures == {}
