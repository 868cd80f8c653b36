"""Results never become signals: not written into the folders of inputs, and left out where they lie there already."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nid_dist.cli import decompose, evaluate, fit, prepare, reconstruct_ct
from nid_dist.cli.entry import guarded
from nid_dist.data.files import find_files
from nid_dist.errors import UserError
from nid_dist.files import keep_apart
from nid_dist.training.run import train
from tests.tiny import tiny, write_pictures

STORED = Path(__file__).parent / "fixtures" / "version_0_1" / "runs"


@pytest.mark.parametrize(
    ("out", "given", "words"),
    [
        ("photos/fit", "photos", "a folder within the inputs"),
        ("photos", "photos", "the folder of the inputs"),
        ("link/fit", "photos", "a folder within"),
        ("photos/deep/fit", "link", "a folder within"),
        ("photos2", "photos", None),
        ("fit", "photos", None),
        ("fit", "fit/../other", None),
        (".", "photos", None),
        ("photos/fit", "photos/a.png", None),
        ("photos/fit", "missing", None),
    ],
)
def test_where_results_may_go(out: str, given: str, words: str | None, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "link").symlink_to("photos")
    if words is None:
        keep_apart(tmp_path / out, [None, tmp_path / given])
        return
    with pytest.raises(UserError, match=words):
        keep_apart(tmp_path / out, [None, tmp_path / given])


def refused(command: object, *arguments: object) -> None:
    assert guarded("nid-x", command)([str(each) for each in arguments]) == 2  # type: ignore[arg-type]


def test_every_command_that_lists_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_pictures(tmp_path / "images")
    (tmp_path / "sinograms").mkdir()
    np.save(tmp_path / "sinograms" / "a.npy", np.zeros((8, 33)))
    (tmp_path / "g.yaml").write_text("{beam: parallel, unit: degrees, views: 8, bins: 33, radius: 1}")
    before = sorted(tmp_path.rglob("*"))
    given = ["--device", "cpu"]
    for root, command, arguments in (
        (images, fit.command, ["--dictionary", STORED / "images", "--input", images]),
        (images, decompose.command, ["--run", STORED / "video", "--input", images]),
        (images, prepare.command, ["shapes", "--input", images]),
        (
            tmp_path / "sinograms",
            reconstruct_ct.command,
            ["--dictionary", STORED / "ct", "--sinogram", tmp_path / "sinograms", "--geometry", tmp_path / "g.yaml"],
        ),
    ):
        more = given if command is not prepare.command else []
        refused(command, *arguments, "--out", root / "results", *more)
        assert "within the inputs" in (said := capsys.readouterr().err) and said.count("\n") == 1, said
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UserError, match=r"logging.run_dir .*: found a folder within the inputs"):
        train(tiny(images, images / "run"))
    assert not (images / "run").exists()


def test_results_that_lie_among_signals_are_left_out(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png", "fit/x/omp.png", "fit/comparison.png", "run/events/p.png", "codes/out.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("fit/results.json", "fit/table.md", "codes/codes.safetensors", "run/config.yaml", "sub/table.md"):
        (tmp_path / name).touch()
    (tmp_path / "run" / "checkpoints").mkdir()
    skipped: Counter[str] = Counter()
    assert find_files(tmp_path, [".png"], skipped) == ["a.png", "sub/b.png"]
    assert skipped["among results of nid_dist"] == 2
    assert find_files(tmp_path / "fit", [".png"]) == ["comparison.png", "x/omp.png"], "asked for by name"


def test_evaluation_beside_the_signals_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, run = write_pictures(tmp_path / "images"), tmp_path / "run"
    train(tiny(images, run, "training.steps=1", "coding.phases=[{mode: solve}]"))
    refused(evaluate.command, "--dictionary", run, "--out", images / "results", "--device", "cpu")
    assert "within the inputs" in capsys.readouterr().err and not (images / "results").exists()
