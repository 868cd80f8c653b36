"""Codes solved at each shape's own points: a training on two ranks is that of one process, prior included."""

import json
from pathlib import Path

import torch

import nid_dist
from nid_dist.config import Config, load_config
from nid_dist.parallel.launch.launching import Launch
from nid_dist.training.run import train
from tests.parallel.processes import spawn

SIZES = """
signals: {source: shapes, shapes: 9, families: [chair], val: [chair-00004], test: [], lattice: 6, cloud: 32}
dictionary: {experts: 32, width: 16, encoding: {kind: fourier, features: 8, scale: 3, mirror: 0}}
coding: {support: 8, blocks: 2, ridge: 1.0e-3, prior_rank: 4, prior_signals: 8, gate: {kind: pointnet, width: 8},
         phases: [{mode: solve}, {mode: distill}]}
optimizer: {warmup_steps: 5}
training: {steps: 12, batch: 5, coordinates: 64, eval_every: 0, checkpoint_every: 0}
logging: {log_every: 1, tensorboard: false, progress: false, pictures_every: 0}
parallel: {timeout_seconds: 60.0}
"""


def configured(folder: Path, name: str) -> Config:
    path = folder / "shapes.yaml"
    if not path.exists():
        path.write_text(SIZES)
    return load_config(path, [f"logging.run_dir={folder / name}"])


def rank_trains(rank: int, size: int, port: int, folder: str) -> None:
    train(configured(Path(folder), "two"), None, Launch("torchrun", rank, size, rank, size, "127.0.0.1", port))


def test_two_ranks_are_one_process(tmp_path: Path) -> None:
    train(configured(tmp_path, "one"))
    spawn(rank_trains, 2, str(tmp_path))
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    losses = [[line["loss"] for line in map(json.loads, log) if line["event"] == "train"] for log in logs]
    assert len(losses[0]) == 12 and losses[0][0] != losses[0][-1]
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=1e-4, atol=1e-6)
    one, two = nid_dist.load(tmp_path / "one"), nid_dist.load(tmp_path / "two")
    for (name, value), other in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        if not name.startswith("stored_prior.basis"):  # whose signs are free
            size = value.double().norm() + 1e-2 * value.numel() ** 0.5
            assert (other.double() - value.double()).norm() < 2e-3 * size, name
    priors = [one.require_prior(), two.require_prior()]
    torch.testing.assert_close(priors[1].precision(), priors[0].precision(), rtol=5e-2, atol=5e-2)
