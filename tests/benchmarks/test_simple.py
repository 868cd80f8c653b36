"""The table of ours beside the simple thing."""

from collections.abc import Iterator

import pytest

from nid_dist.benchmarks import simple
from nid_dist.benchmarks.simple import Line
from nid_dist.errors import UserError


def good(quick: bool) -> Iterator[Line]:
    assert quick
    yield Line("db_box_minus_biharmonic", "a box", "map", 20.5, "biharmonic", 20.0, seconds=0.5, simple_seconds=0.1)


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
