"""`nid-benchmark`: a table, one JSON object, and refusals before anything is measured."""

import json
from pathlib import Path

import pytest
import torch

from nid_dist.benchmarks import step
from nid_dist.cli.benchmark import BENCHMARKS, main


def test_step(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = step.Gemm(64)
    monkeypatch.setattr(step, "Gemm", lambda: small)
    path = tmp_path / "step.json"
    threads = torch.get_num_threads()
    assert main(["step", "--json", str(path), "--quick", "--threads", str(threads)]) == 0
    written = json.loads(path.read_text())
    assert set(written) == {"name", "command", "machine", "figures"} and written["name"] == "step"
    assert written["command"].endswith(f"step --json {path} --quick --threads {threads}")
    assert written["machine"]["cores"] >= 1
    out = capsys.readouterr().out
    assert "speed-up" in out and f"wrote {path}" in out
    assert (tmp_path / "step.md").read_text().startswith("# step\n")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--json", "nowhere/x.json"], "--json nowhere/x.json: found no such folder"),
        (["--json", "."], "--json .: found a folder"),
        (["--json", "x.md"], "--json x.md: found the ending '.md'"),
        (["--json", "x.json", "--threads", "0"], "--threads: found 0"),
    ],
)
def test_bad_input(
    tmp_path: Path,
    given: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(BENCHMARKS, "step", lambda quick: pytest.fail("measured"))
    assert main(["step", *given]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and message in captured.err
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["speed", "--json", "x.json"])
    assert exit.value.code == 2
    err = capsys.readouterr().err
    assert all(name in err for name in ("engines", "exchange", "quality", "scaling", "step"))
