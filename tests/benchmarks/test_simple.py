"""The table of ours beside the simple thing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nid_dist.benchmarks import simple
from nid_dist.benchmarks.simple import Line
from nid_dist.cli.benchmark import main
from nid_dist.errors import UserError


def good(quick: bool) -> Iterator[Line]:
    assert quick
    yield Line("db_box_minus_biharmonic", "a box", "map", 20.5, "biharmonic", 20.0, seconds=0.5, simple_seconds=0.1)


def better(_: bool) -> Iterator[Line]:
    yield Line("db_video_minus_median_gain", "video", "ours", 44.0, "median", 42.0)


def left_out(_: bool) -> Iterator[Line]:
    raise UserError("faces", found="no registry", expected="one", hint="do without")
    yield


def test_a_line_is_ours_minus_the_simple_thing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simple, "jobs", lambda: {"box": good, "faces": left_out})
    figures, table = simple.run(True)
    assert figures["db_box_minus_biharmonic"] == 0.5
    assert "no registry" in figures["left_out_faces"]
    assert "+0.50" in table.text() and "left out faces" in capsys.readouterr().err


def test_a_job_can_be_done_again_while_the_others_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simple, "jobs", lambda: {"box": good, "video": better})
    out = tmp_path / "simple.json"
    assert main(["simple", "--json", str(out), "--quick", "--only", "box"]) == 0
    assert main(["simple", "--json", str(out), "--quick", "--only", "video"]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert (figures["db_box_minus_biharmonic"], figures["db_video_minus_median_gain"]) == (0.5, 2.0)
    assert [row["part"] for row in figures["lines"]] == ["box", "video"]
    assert main(["step", "--json", str(out), "--only", "box"]) == 2
    assert "--only: found it, of step" in capsys.readouterr().err
