"""Training: every mode and option learns, and says what it does."""

import itertools
import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest

from nid_dist.training.run import train
from nid_dist.training.trainer import Trainer
from tests.tiny import tiny, write_pictures

KINDS = ("light", "conv", "resnet", "codebook", "unrolled")
# Whole patches of three pictures: 3 x 12 signals, all of them in every step, so that losses can be compared.
ALL = ["signals.stride=8", "training.batch=36", "optimizer.schedule=constant", "optimizer.lr=3e-3"]


def log(run: Path, event: str = "train") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def steps(images: Path, run: Path, *overrides: str, resume: str | None = None) -> Trainer:
    return train(tiny(images, run, *overrides), resume)


@pytest.mark.parametrize(("layers", "whole"), [(1, False), (2, True)], ids=["linear-patches", "deep-whole"])
@pytest.mark.parametrize(
    ("mode", "kind"),
    [(mode, kind) for mode in ("gate", "solve", "distill") for kind in KINDS]
    + [("solve", "none"), ("solve", "pursuit")],
)
def test_every_mode_gate_and_kind_of_expert_learns(
    images: Path, tmp_path: Path, mode: str, kind: str, layers: int, whole: bool
) -> None:
    overrides = [f"coding.phases=[{{mode: {mode}}}]", f"coding.gate={{kind: {kind}, width: 8, iterations: 3}}"]
    overrides += [f"dictionary.private_layers={layers}", "dictionary.private_width=8", "training.steps=10"]
    if whole:
        overrides += ["signals.patch=null", "signals.size=10", "training.batch=3"]
    overrides += ["objective.balance=1e-4"]  # which jumps with the choice of experts
    rate = "2e-4" if kind == "unrolled" else "3e-3"  # it starts next to its best
    trainer = steps(images, tmp_path / "run", *ALL, f"optimizer.gate_lr={rate}", *overrides)
    losses = [line["loss"] for line in log(tmp_path / "run")]
    assert len(losses) == 10 and all(map(math.isfinite, losses))
    assert sum(losses[-3:]) < sum(losses[:3])
    assert all(math.isfinite(value) for value in trainer.figures.values())
    assert ("val/db_init" in trainer.figures) == (kind not in ("none", "codebook"))
    assert all(bool(parameter.isfinite().all()) for parameter in trainer.model.parameters())


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.coordinates=20"],
        ["training.precision=bf16"],
        ["training.precision=bf16", "coding.phases=[{mode: gate}]"],
        ["optimizer.clip_norm=0.01"],
        ["optimizer.clip_norm=null", "optimizer.name=adamw", "optimizer.weight_decay=0.01"],
        ["optimizer.schedule=cosine", "optimizer.warmup_steps=3"],
        ["optimizer.schedule=linear"],
        ["signals.colour=grey"],
        ["coding.phases=[{mode: gate}]", "coding.warmup_steps=30"],
        ["coding.phases=[{mode: gate}]", "coding.gate.noisy=true"],
        ["dictionary.init=principal", "dictionary.activation=sine"],
        ["dictionary.init=random", "dictionary.whiten=false", "dictionary.trunk_output=activated"],
        ["dictionary.private_layers=3", "dictionary.shared_layers=0", "dictionary.private_width=8"],
        ["objective.loss=l1"],
        ["objective.loss=huber"],
    ],
    ids=lambda overrides: " ".join(overrides)[:60],
)
def test_options_learn(images: Path, tmp_path: Path, overrides: list[str]) -> None:
    steps(images, tmp_path / "run", *ALL, "training.steps=10", "coding.phases=[{mode: solve}]", *overrides)
    losses = [line["loss"] for line in log(tmp_path / "run")]
    assert all(map(math.isfinite, losses)) and sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.parametrize(
    ("kind", "mode"),
    [*itertools.product(("light", "unrolled"), ("gate", "warm", "solve", "distill")), ("pursuit", "solve")],
)
def test_accumulated_micro_batches_train_as_the_whole_batch(images: Path, tmp_path: Path, mode: str, kind: str) -> None:
    overrides = [f"coding.phases=[{{mode: {mode.replace('warm', 'gate')}}}]", f"coding.gate={{kind: {kind}, width: 8}}"]
    overrides += ["coding.warmup_steps=9"] if mode == "warm" else []
    losses = []
    for accumulation in (1, 4):
        run = tmp_path / str(accumulation)
        steps(images, run, *overrides, "training.steps=4", f"optimizer.accumulation={accumulation}")
        losses.append([(line["loss"], line["gradient_norm"], line["data"]) for line in log(run)])
    for whole, pieces in zip(*losses, strict=True):
        assert pieces == pytest.approx(whole, rel=1e-4)
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-5)


def test_the_balance_penalty_balances(images: Path, tmp_path: Path) -> None:
    figures = []
    for weight in (0.0, 1.0):
        overrides = ["coding.phases=[{mode: gate}]", f"objective.balance={weight}", "training.steps=30"]
        steps(images, tmp_path / str(weight), *ALL, *overrides, "optimizer.gate_lr=3e-3")
        figures.append([line["balance"] for line in log(tmp_path / str(weight))])
    free, balanced = figures
    assert balanced[-1] < 0.7 * balanced[0] and balanced[-1] < 0.7 * free[-1]


def test_no_warning_and_no_leftover_in_a_normal_run(images: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(images, tmp_path / "run", "training.steps=3")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".lock",
        "checkpoints",
        "config.yaml",
        "events",
        "log.jsonl",
        "model.json",
        "placement.json",
    ]


def test_the_log_says_what_happened(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    overrides = ["training.steps=7", "logging.log_every=3", "training.eval_every=4", "training.checkpoint_every=5"]
    steps(images, run, *overrides, "coding.phases=[{mode: gate}, {mode: solve}, {mode: distill}]")
    lines = log(run)
    assert [line["step"] for line in lines] == [3, 6, 7]
    assert [line["phase"] for line in lines] == ["gate", "distill", "distill"]
    for line in lines:
        assert {"loss", "data", "gradient_norm", "lr", "ms_per_step", "dead_experts", "imbalance"} <= line.keys()
    assert [line["step"] for line in log(run, "eval")] == [4, 7]
    assert {"val/db_init", "val/db_ridge", "val/db_omp2", "effective_rank"} <= log(run, "eval")[0].keys()
    assert [line["step"] for line in log(run, "checkpoint")] == [5, 7]


def test_pictures_curves_and_histograms_reach_tensorboard(images: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    overrides = ["logging.tensorboard=true", "logging.pictures_every=2", "training.eval_every=2", "training.steps=3"]
    steps(images, tmp_path / "run", *overrides)
    events = EventAccumulator(str(tmp_path / "run" / "events"), size_guidance={"images": 0, "histograms": 0})
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/dead_experts", "eval/val/db_omp2", "eval/effective_rank"} <= set(tags["scalars"])
    assert set(tags["images"]) == {"val/d.png", "experts/most_used"}
    assert tags["histograms"] == ["experts/load"]
    assert [event.step for event in events.Images("val/d.png")] == [2, 3]


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.batch=1000"],
        ["training.batch=1"],
        ["dictionary.experts=1", "coding.support=1"],
        ["coding.support=32"],
        ["coding.blocks=100"],
        ["signals.limit=1"],
        ["training.steps=1"],
        ["signals.val=0.0"],
        ["signals.patch=1", "signals.stride=1"],
        ["dictionary.encoding={kind: identity}", "dictionary.width=1"],
        ["coding.gate.kind=codebook", "training.batch=300"],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_odd_but_valid_configurations_train(images: Path, tmp_path: Path, overrides: list[str]) -> None:
    trainer = steps(images, tmp_path / "run", "training.steps=3", *overrides)
    assert trainer.finished and any("db_omp" in name for name in trainer.figures)


def test_signals_fewer_than_experts_and_flat_pictures_train(tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "images", ("d.png", "e.png"))
    from PIL import Image

    Image.new("RGB", (8, 8), (10, 10, 10)).save(images / "flat.png")
    trainer = steps(images, tmp_path / "run", "training.steps=3", "optimizer.clip_norm=null")
    assert all(bool(parameter.isfinite().all()) for parameter in trainer.model.parameters())
