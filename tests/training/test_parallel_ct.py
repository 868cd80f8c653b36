"""A CT training on two ranks that share the experts: the losses, the prior and the evaluation of one process."""

import json
from pathlib import Path
from typing import Any

import pytest

from nid_dist.export import load
from nid_dist.parallel.launch.launching import Launch
from nid_dist.training.run import train
from tests.parallel.processes import spawn
from tests.tiny_ct import tiny_ct

SETTINGS = ["training.steps=10", "logging.log_every=1", "coding.phases=[{mode: solve}, {mode: distill}]"]
SETTINGS += ["training.batch=6", "coding.prior_signals=20", "objective.distill=0.5"]


def rank_trains(rank: int, world: int, port: int, folder: Path) -> None:
    launch = Launch("torchrun", rank, world, rank, world, "127.0.0.1", port)
    config = tiny_ct(folder / "two", *SETTINGS, "parallel.timeout_seconds=120", "parallel.expert_parallel_size=2")
    train(config, launch=launch)


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (run / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == kind]


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    train(tiny_ct(tmp_path / "one", *SETTINGS))
    spawn(rank_trains, 2, tmp_path)
    one, two = (events(tmp_path / run, "train") for run in ("one", "two"))
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-4)
    (first,), (second,) = (events(tmp_path / run, "eval") for run in ("one", "two"))
    for name in ("val/db_omp2", "val/db_map2_4", "val/db_ridge_4", "val/db_init_4"):
        assert second[name] == pytest.approx(first[name], abs=0.02)
    priors = [load(tmp_path / run).prior for run in ("one", "two")]
    assert priors[0] is not None and priors[1] is not None
    assert priors[1].variances.tolist() == pytest.approx(priors[0].variances.tolist(), rel=1e-2, abs=1e-6)
