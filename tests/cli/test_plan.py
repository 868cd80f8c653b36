"""`nid-plan` as a person uses it: the table, the choice, the JSON file, what comes next, and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from nid_dist.cli.plan import describe_run, main
from nid_dist.config import load_config
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.planning.run import Run
from nid_dist.tasks.images.task import ImageTask
from nid_dist.tasks.registry import make_task
from tests.cli.test_reconstruct import SIZES as SHAPES
from tests.planning.configurations import sent_bytes
from tests.tiny import tiny, write_sizes

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def planned(path: Path, *given: str) -> dict[str, Any]:
    """The figures of a plan."""
    assert main(["--config", str(CONFIG), "--json", str(path), *given]) == 0
    figures: dict[str, Any] = json.loads(path.read_text())
    return figures


def test_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = planned(tmp_path / "plan.json", "--nodes", "2", "--gpus-per-node", "4", "--set", "training.batch=64")
    out = capsys.readouterr().out
    # 3 channels of 256 + 1 parameters; 255 features to 256; a variance for each expert.
    assert "1024 experts in total, 771 parameters each; trunk 65536 parameters, gate 1024" in out
    assert "2 node(s) x 4 = 8 rank(s), at most 8 of a micro-batch's 64 signals on each" in out
    assert "Memory of a rank" in out and "mode solve (1 of the steps)" in out
    assert "as configured" in out and "the fastest that fits in 80 GB" in out and "--bandwidth" in out
    assert f"wrote {tmp_path}/plan.json" in out and "next: torchrun --nnodes 2" in out and "training.batch=64" in out
    assert [each["expert_parallel_size"] for each in figures["plans"]] == [1, 2, 4, 8]
    assert figures["configured"] == 4 and figures["chosen"] in (1, 2, 4, 8)
    config = load_config(CONFIG, ["training.batch=64"])
    for each in figures["plans"]:
        for step in each["steps"]:
            exact = sent_bytes(Run(config, 3, 256, 8), each["expert_parallel_size"], step["mode"])
            sent = {kind: links["within"] + links["between"] for kind, links in step["sent"].items()}
            assert sent.pop("gradients") > 0 and sent.pop("agreements") > 0 and sent == exact
    assert min(each["seconds"] for each in figures["plans"]) == next(
        each["seconds"] for each in figures["plans"] if each["expert_parallel_size"] == figures["chosen"]
    )


def test_the_configured_size_is_planned_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Groups of 4 ranks lie across nodes of 6: a plan proposes none, unless it was asked for.
    given = ["--nodes", "2", "--gpus-per-node", "6", "--set", "parallel.expert_parallel_size=4"]
    figures = planned(tmp_path / "plan.json", *given)
    assert [each["expert_parallel_size"] for each in figures["plans"]] == [1, 2, 4]
    assert figures["configured"] == 4
    out = capsys.readouterr().out
    chosen = figures["chosen"]
    assert (f"parallel.expert_parallel_size={chosen}" in out.splitlines()[-1]) and f"R = {chosen}, experts" in out


def test_what_does_not_fit_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = planned(tmp_path / "plan.json", "--nodes", "1", "--gpus-per-node", "2", "--memory", "0.001")
    out = capsys.readouterr().out
    assert figures["chosen"] is None and "No R fits in 0.001 GB" in out and out.count("does not fit") == 2
    assert "next: plan again with more ranks" in out


@pytest.mark.parametrize(
    ("gpus", "start"),
    [(1, "nid-train --config"), (4, "torchrun --standalone --nproc-per-node 4 -m nid_dist.cli.train")],
)
def test_one_node(gpus: int, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(CONFIG), "--nodes", "1", "--gpus-per-node", str(gpus)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"next: {start}") and ("--single-process" in last) == (gpus == 1)


def test_a_million_experts_on_a_thousand_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["dictionary.experts=1000000", "training.batch=4096", "training.precision=bf16", "parallel.zero_stage=1"]
    assert main(["--config", str(CONFIG), "--nodes", "128", "--gpus-per-node", "8", "--set", *given]) == 0
    out = capsys.readouterr().out
    assert "15625" in out and "150 TFLOP/s" in out


def test_a_codebook_has_a_row_for_each_training_signal(images: Path, tmp_path: Path) -> None:
    config = tiny(images, tmp_path, "coding.gate.kind=codebook", "coding.phases=[{mode: gate}]")
    signals = len(ImageTask(config).signals)
    assert describe_run(config, 2).gate.parameters == signals * (32 + 3)
    assert describe_run(config, 2, 10**9).gate.parameters == 10**9 * 35


@pytest.mark.parametrize("kind", ["light", "conv", "resnet", "unrolled", "codebook"])
def test_parameters_are_a_models(kind: str, images: Path, tmp_path: Path) -> None:
    config = tiny(images, tmp_path, f"coding.gate.kind={kind}")
    run = describe_run(config, 1)
    model = ImageTask(config).model()
    assert 32 * run.expert_parameters == sum(p.numel() for p in model.dictionary.experts.parameters())
    assert run.trunk_parameters == sum(p.numel() for p in model.dictionary.trunk.parameters())
    assert model.gate is not None
    assert run.gate.parameters == sum(p.numel() for p in model.gate.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--nodes", "0"], "--nodes: found 0, expected a number above 0"),
        (["--gpus-per-node", "-1"], "--gpus-per-node: found -1"),
        (["--bandwidth", "0"], "--bandwidth: found 0.0"),
        (["--flops", "nan"], "--flops: found nan"),
        (["--latency", "-1"], "--latency: found -1.0, expected 0 or more"),
        (["--signals", "0"], "--signals: found 0"),
        (["--set", "parallel.expert_parallel_size=4"], "the number of processes: found 6, expected a multiple of"),
        (["--set", "parallel.expert_parallel_size=3"], "dictionary.experts 32 is not divisible by"),
        (["--set", "coding.gate.kind=codebook"], "no such folder"),
        (["--set", "coding.gate.kind=codebook"], "or say how many training signals there are (--signals)"),
    ],
)
def test_bad_input(tmp_path: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sizes(tmp_path)
    overrides = ["--set", f"signals.path={tmp_path / 'nowhere'}"]
    assert main(["--config", str(path), "--nodes", "2", "--gpus-per-node", "3", *overrides, *given]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and message in captured.err and not captured.out


@pytest.mark.parametrize("kind", ["codebook", "pointnet"])
def test_shapes_are_planned_as_they_are_trained(kind: str, tmp_path: Path) -> None:
    """The planner asks the section of the signals: a cube of m = 3, points of their own, and what the gate is shown."""
    (tmp_path / "shapes.yaml").write_text(SHAPES)
    given = [f"coding.gate.kind={kind}", "signals.augment=false", "signals.path=null", "training.coordinates=null"]
    config = load_config(tmp_path / "shapes.yaml", given)
    task = make_task(config)
    run, model = describe_run(config, 1), task.model()
    batch = task.batch(0, 0, World(Topology(1)))
    assert (run.in_dim, run.per_signal, run.channels) == (3, True, 1)
    assert run.grid_points == batch.samples.coords.shape[1] == 2048
    assert model.gate is not None
    assert run.gate.parameters == sum(p.numel() for p in model.gate.parameters())
    if kind == "pointnet":
        assert config.signals.gate_input == batch.gate_input.shape[1:]
