"""A plan by the rates of a measured card, and files that are none."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from nid_dist.cli.plan import main
from nid_dist.errors import UserError
from nid_dist.planning.card import Card, read_card
from nid_dist.planning.estimate import estimate, update_bytes
from nid_dist.planning.run import Run
from tests.cli.test_plan import CONFIG
from tests.planning.configurations import configuration
from tests.planning.test_estimate import MACHINE

FIGURES = {"attained_fp32_tflops": 20.0, "attained_bf16_tflops": 90.0, "copy_gb_per_s": 3000.0, "memory_gb": 85.0}


def written(path: Path, figures: Any = FIGURES) -> Path:
    path.write_text(json.dumps({"name": "gpu", "machine": {"accelerator": "a card"}, "figures": figures}))
    return path


def test_a_card_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "gpu.json")
    assert read_card(path, "fp32") == Card("a card", 2e13, 3e12, 8.5e10)
    assert read_card(path, "bf16").rate == 9e13
    with pytest.raises(UserError, match=r"found no attained_tf32_tflops.*--flops"):
        read_card(path, "tf32")


def test_a_plan_by_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "gpu.json")
    plans = []
    for name, given in {
        "by default": [],
        "by card": ["--card", str(path)],
        "told": ["--card", str(path), "--flops", "40"],
    }.items():
        out = tmp_path / f"{name}.json"
        few = ["--config", str(CONFIG), "--nodes", "1", "--gpus-per-node", "1", "--json", str(out)]
        assert main([*few, *given]) == 0
        plans.append(json.loads(out.read_text()))
    told = capsys.readouterr().out
    assert "as of a card in" in told and "20 TFLOP/s" in told and "40 TFLOP/s" in told and "85 GB" in told
    assert [plan["assumed"]["flops"] for plan in plans] == [15, 20, 40]
    assert [plan["assumed"]["memory"] for plan in plans] == [80, 85, 85]
    seconds = [plan["plans"][0]["steps"][0]["compute"] for plan in plans]
    # 1024 experts of 771 parameters, a trunk of 65536 and a gate of 1024 are read and written 7 times; the rest goes
    # with the rate.
    update = 7 * 4 * (1024 * 771 + 65536 + 1024) / 3e12
    assert seconds[1] - update == pytest.approx(seconds[0] * 15 / 20)
    assert seconds[2] - update == pytest.approx(seconds[0] * 15 / 40)


def test_what_an_update_moves() -> None:
    run = Run(configuration({"dictionary.experts": 4096}), 3, 20, 4)
    for ranks in (1, 4):
        expected = 28 * (4096 // ranks * run.expert_parameters + run.trunk_parameters)
        gate = 28 * run.gate.parameters
        assert update_bytes(run, ranks, "gate") == expected + gate and update_bytes(run, ranks, "distill") == gate
    fast, slow = (dataclasses.replace(MACHINE, copies=rate) for rate in (1e9, 1e8))
    assert estimate(run, slow, 1).seconds > estimate(run, fast, 1).seconds > estimate(run, MACHINE, 1).seconds


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "No such file"),
        ("", "no rates of a card"),
        ("[]", "no rates of a card"),
        ('{"figures": {}}', "no rates of a card"),
        (json.dumps({"machine": {"accelerator": "x"}, "figures": FIGURES | {"memory_gb": -1}}), "no rates of a card"),
        (json.dumps({"machine": {"accelerator": "x"}, "figures": FIGURES | {"memory_gb": None}}), "no rates of a card"),
        (
            json.dumps({"machine": {"accelerator": "x"}, "figures": FIGURES | {"attained_fp32_tflops": "a"}}),
            "no attained",
        ),
    ],
)
def test_other_files_are_refused_in_a_line(
    text: str | None, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gpu.json"
    if text is not None:
        path.write_text(text)
    assert main(["--config", str(CONFIG), "--nodes", "1", "--gpus-per-node", "1", "--card", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and f"--card {path}: found {found}" in captured.err and not captured.out
