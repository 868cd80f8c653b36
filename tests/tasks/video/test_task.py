"""Training on a video: which frames and pixels count, the order of the experts, and the same on two ranks as on one."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nid_dist.coding.gates.codebook import CodebookGate
from nid_dist.config import Config, load_config
from nid_dist.errors import UserError
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.world import World
from nid_dist.tasks.registry import make_task
from nid_dist.tasks.video.task import VideoTask, kept_frames
from nid_dist.training.run import train
from tests.parallel.processes import spawn
from tests.tiny import write_pictures

SIZES = """
signals: {source: video, video: {size: [10, 14]}}
dictionary: {experts: 8, width: 12, shared_layers: 2, activation: sine, trunk_output: activated, init: random,
             encoding: {kind: identity}}
coding: {support: 3, prior_rank: 0, gate: {kind: codebook, width: 8, harmonics: 3}, phases: [{mode: gate, loss: l1}]}
objective: {ordered: 0.01, balance: 0}
optimizer: {warmup_steps: 0, gate_lr: 1.0e-2}
training: {steps: 20, batch: 6, coordinates: 50, eval_every: 0, checkpoint_every: 0}
logging: {log_every: 1, tensorboard: false, progress: false, pictures_every: 0}
"""
TWO_PHASES = "coding.phases=[{mode: gate, loss: l1}, {mode: gate, loss: welsch}]"
CASES = {
    "codebook": [TWO_PHASES, "signals.video={size: [10, 14], missing_pixels: 0.3, missing_frames: 0.2}"],
    "temporal": [TWO_PHASES, "coding.gate.kind=temporal", "training.batch=7"],
    "conv": ["coding.gate.kind=conv", "optimizer.accumulation=2", "dictionary={private_layers: 2, private_width: 6}"],
}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    return write_pictures(folder, tuple(f"{place}.png" for place in range(11)))


def configured(frames: Path, run: Path, *overrides: str) -> Config:
    path = run.parent / "video.yaml"
    path.write_text(SIZES)
    return load_config(path, [f"signals.path={frames}", f"logging.run_dir={run}", *overrides])


def rank_trains(rank: int, size: int, port: int, frames: str, folder: str) -> None:
    for place, (name, case) in enumerate(CASES.items()):
        config = configured(
            Path(frames), Path(folder) / str(rank) / name / "run", *case, f"logging.run_dir={folder}/{name}"
        )
        train(config, None, Launch("torchrun", rank, size, rank, size, "127.0.0.1", port + place))


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["event"] == "train"]


def test_two_ranks_train_like_one(frames: Path, tmp_path: Path) -> None:
    for rank in (0, 1):
        for name in CASES:
            (tmp_path / "two" / str(rank) / name).mkdir(parents=True)
    spawn(rank_trains, 2, str(frames), str(tmp_path / "two"))
    for name, case in CASES.items():
        trainer = train(configured(frames, tmp_path / name, *case))
        assert trainer.figures["train/median_error"] > 0 and trainer.step == 20
        np.testing.assert_allclose(losses(tmp_path / "two" / name), losses(tmp_path / name), rtol=1e-4)


def test_the_first_expert_leads(frames: Path, tmp_path: Path) -> None:
    for kind, rank in itertools.product(("codebook", "temporal", "conv", "light"), ("null", 2)):
        given = f"coding.gate.kind={kind}", f"coding.gate.rank={rank}"
        task = make_task(configured(frames, tmp_path / "run", *given))
        model = task.model()
        output = model.gate_output(task.sample(11).values, torch.arange(11))
        assert (output.logits.abs().argmax(1) == 0).all()


def test_frames_left_out_are_never_drawn(frames: Path, tmp_path: Path) -> None:
    task = make_task(configured(frames, tmp_path / "run", *CASES["codebook"]))
    assert isinstance(task, VideoTask) and len(task.signals) == 9 and len(task.video) == 11
    world = World(Topology(8))
    drawn = {frame for step in range(9) for frame in task.batch(step, 0, world).ids.tolist()}
    assert drawn == set(task.signals)
    model = task.model()
    assert isinstance(model.gate, CodebookGate) and len(model.gate.codes) == 11


def test_pixels_left_out_have_no_weight(frames: Path, tmp_path: Path) -> None:
    task = make_task(configured(frames, tmp_path / "run", *CASES["codebook"]))
    assert isinstance(task, VideoTask)
    batch = task.batch(0, 0, World(Topology(8)))
    assert batch.samples.weighted and batch.samples.weights.shape == (6, 50)
    drawn = [task.coords.tolist().index(point) for point in batch.samples.coords.tolist()]
    kept = task.kept_pixels(batch.ids.tolist())
    np.testing.assert_array_equal(batch.samples.weights.numpy() > 0, kept[:, drawn])
    assert kept.mean() == pytest.approx(0.7, abs=0.05)


def test_never_all_frames_are_left_out(frames: Path, tmp_path: Path) -> None:
    config = configured(frames, tmp_path / "run", "signals.video.missing_frames=0.99")
    kept = kept_frames(config, np.array([True, False, True, True]))
    assert kept.sum() == 2 and not kept[1]


def test_pictures(frames: Path, tmp_path: Path) -> None:
    task = make_task(configured(frames, tmp_path / "run"))
    (picture,) = task.pictures(task.model()).values()
    assert picture.shape == (10, 42, 3)


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("signals.path=null", "needs signals.path"),
        ("signals.size=10", "neither turned"),
        ("signals.video={start: 5, stop: 5}", "leaves no frame"),
        ("coding.gate.kind=temporal signals.source=folder", "'temporal' cannot read the images"),
        ("signals.video.missing_pixels=0.5 coding.gate.kind=conv", "looks at whole frames"),
        ("signals.video.missing_pixels=0.5 coding.phases=[{mode: solve}]", "needs mode 'gate'"),
        ("signals.video.strides=2", "stride"),
    ],
)
def test_what_does_not_go_together(frames: Path, tmp_path: Path, override: str, found: str) -> None:
    words = [override] if "{" in override and "start" in override else override.split(" ", 1)
    with pytest.raises(UserError, match=found):
        configured(frames, tmp_path / "run", *words)
