"""Signed distances as signals: batches that depend on the step alone, figures by independent formulas, a training."""

from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nid_dist
from nid_dist.cli import evaluate, fit
from nid_dist.config import Config, load_config
from nid_dist.errors import UserError
from nid_dist.export import export
from nid_dist.model import Model
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.tasks.images.fit import fit_image
from nid_dist.tasks.shapes.task import ShapeTask
from nid_dist.training.run import train

SIZES = """
signals: {source: shapes, shapes: 12, val: [table-00004, lamp-00005], test: [chair-00009], lattice: 6}
dictionary: {experts: 32, width: 16, encoding: {kind: fourier, features: 8, scale: 3}}
coding: {support: 8, blocks: 2, gate: {kind: codebook}, phases: [{mode: gate}]}
optimizer: {warmup_steps: 0, gate_lr: 1.0e-2}
training: {steps: 20, batch: 6, coordinates: 64, eval_every: 0, checkpoint_every: 0}
logging: {log_every: 1, tensorboard: false, progress: false, pictures_every: 0}
"""
ALONE = World(Topology(32))


def tiny(folder: Path, *overrides: str) -> Config:
    path = folder / "shapes.yaml"
    path.write_text(SIZES)
    return load_config(path, [f"logging.run_dir={folder / 'run'}", *overrides])


@pytest.fixture
def task(tmp_path: Path) -> ShapeTask:
    return ShapeTask(tiny(tmp_path))


def constant(model: Model) -> Model:
    """f is its bias: the mean of what a code was fitted to."""
    with torch.no_grad():
        model.dictionary.experts.rows.zero_()
    return model.eval()


def test_splits_are_kept_apart(task: ShapeTask, tmp_path: Path) -> None:
    assert task.shapes == {"train": [0, 1, 2, 3, 6, 7, 8, 10, 11], "val": [4, 5], "test": [9]}
    assert len(task.signals) == 9 and task.channels == 1 and task.grid_shape == (6, 6, 6)
    shares = ShapeTask(tiny(tmp_path, "signals.shapes=200", "signals.val=0.2", "signals.test=0.1", "signals.limit=50"))
    assert len(shares.shapes["train"]) == 50 and 20 < len(shares.shapes["val"]) <= 50
    families = ShapeTask(tiny(tmp_path, "signals.val=[lamp-*]", "signals.test=0.0"))
    assert families.shapes["val"] == [2, 5, 8, 11]
    with pytest.raises(UserError, match="signals.val"):
        ShapeTask(tiny(tmp_path, "signals.val=[sofa-*]"))


def test_a_batch_holds_cut_distances_at_points_of_each_shape(task: ShapeTask) -> None:
    batch = task.batch(2, 0, ALONE)
    samples = batch.samples
    assert not samples.shared and not samples.weighted and batch.weight == 1
    assert samples.values.shape == (6, 64, 1) and samples.coords.shape == (6, 64, 3)
    for signal, coords, values in zip(batch.ids.tolist(), samples.coords, samples.values, strict=True):
        distances = task.source.distance(task.shapes["train"][signal], coords.double().numpy())
        np.testing.assert_allclose(values[:, 0], np.clip(10 * distances, -1, 1), atol=1e-4)
    assert samples.values.min() < 0 and samples.values.max() == 1
    again, later = task.batch(2, 0, ALONE), task.batch(3, 0, ALONE)
    assert torch.equal(again.samples.coords, samples.coords) and torch.equal(again.samples.values, samples.values)
    # The same shape has other points at another step.
    signal = next(signal for signal in batch.ids.tolist() if signal in later.ids.tolist())
    first, other = (part.samples.coords[part.ids.tolist().index(signal)] for part in (batch, later))
    assert not torch.equal(first, other)


def test_coordinates_and_seeds(tmp_path: Path) -> None:
    one = ShapeTask(tiny(tmp_path, "training.coordinates=null", "training.batch=1")).batch(0, 0, ALONE)
    assert one.samples.values.shape == (1, 2048, 1)
    seeds = [ShapeTask(tiny(tmp_path, f"training.seed={seed}", "training.batch=9")) for seed in (0, 1)]
    # The training's seed draws other points of the same shapes.
    torch.testing.assert_close(*(made.sample(99).values.sum(0) for made in seeds))
    drawn = [made.batch(0, 0, ALONE) for made in seeds]
    points = [batch.samples.coords[batch.ids.argsort()] for batch in drawn]
    assert not torch.equal(*points)


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_parts_of_ranks_and_micro_batches_are_the_batch(tmp_path: Path, ranks: int) -> None:
    whole, cut = ShapeTask(tiny(tmp_path)), ShapeTask(tiny(tmp_path, "optimizer.accumulation=2"))
    batch = whole.batch(5, 0, ALONE)
    worlds = [World(Topology(32, ranks, rank)) for rank in range(ranks)]
    parts = [part for micro in range(2) for world in worlds if (part := cut.batch(5, micro, world)).weight]
    for name in ("samples.values", "samples.coords", "ids", "noise_seeds"):
        get = attrgetter(name)
        assert torch.equal(torch.cat([get(part) for part in parts]), get(batch))
    assert sum(part.weight for part in parts) == pytest.approx(2 * ranks)


def test_sample_is_dense_on_the_grid(task: ShapeTask) -> None:
    sample = task.sample(4).values
    assert sample.shape == (4, 216, 1) and task.sample(100).values.shape == (9, 216, 1)
    # Each is one of the training shapes; pixel centres of six cells are odd sixths.
    centres = np.array([-5, -3, -1, 1, 3, 5]) / 6
    points = np.array([[x, y, z] for x in centres for y in centres for z in centres])
    dense = [np.clip(10 * task.source.distance(index, points), -1, 1) for index in task.shapes["train"]]
    for values in sample[..., 0].numpy():
        assert min(np.abs(values - other).max() for other in dense) < 1e-4


def test_figures_of_a_constant_f(task: ShapeTask) -> None:
    figures = task.evaluate(constant(task.model()), ALONE)
    assert list(figures) == ["val/distance_omp2", "val/sign_omp2"]
    errors, signs = [], []
    for index in task.shapes["val"]:
        # Many points of the same kind: the figures are those of this distribution, up to the luck of 64 points.
        _, distances = task.source.sample(index, 20_000, 0.8, np.random.default_rng(0))
        values = np.clip(distances, -0.1, 0.1)
        errors.append(np.abs(values - values.mean()).mean())
        signs.append((np.sign(values) == np.sign(values.mean())).mean())
    assert figures["val/distance_omp2"] == pytest.approx(np.mean(errors), rel=0.15)
    assert figures["val/sign_omp2"] == pytest.approx(np.mean(signs), abs=0.1)


def test_what_f_can_represent_is_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half space, cut nowhere in the cube, is linear: identity features hold it exactly."""
    linear = ["dictionary.encoding.kind=identity", "dictionary.shared_layers=0", "dictionary.init=random"]
    task = ShapeTask(tiny(tmp_path, *linear, "signals.truncation=2", "coding.support=32", "coding.ridge=0"))

    class HalfSpace:
        names = task.source.names

        def sample(self, index: int, count: int, near: float, generator: np.random.Generator) -> Any:
            points = generator.uniform(-1, 1, (count, 3))
            return points, self.distance(index, points)

        def distance(self, index: int, points: np.ndarray) -> np.ndarray:
            return points[:, 1] - 0.25

        def surface(self, index: int, count: int, generator: np.random.Generator) -> Any:
            raise NotImplementedError

    monkeypatch.setattr(task, "source", HalfSpace())
    model = task.model().eval()
    figures = task.evaluate(model, ALONE)
    assert figures["val/distance_omp2"] < 1e-4 and figures["val/sign_omp2"] > 0.98
    ((name, picture),) = task.pictures(model).items()
    truth, found = np.split(picture, 2, axis=1)
    assert name == "val/table-00004" and truth.shape == (64, 64, 1)
    # Upwards is up: the first row lies at y = 63 / 64.
    expected = 0.5 + 0.25 * (np.arange(63, -64, -2)[:, None, None] / 64 - 0.25)
    np.testing.assert_allclose(truth, np.broadcast_to(expected, truth.shape), atol=1e-6)
    np.testing.assert_allclose(found, truth, atol=1e-4)


def test_the_ranks_share_an_evaluation(task: ShapeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    model = constant(task.model())
    alone = task.evaluate(model, ALONE)
    worlds = [World(Topology(32, 2, rank)) for rank in range(2)]
    scores: list[torch.Tensor] = []
    monkeypatch.setattr(World, "all_reduce_sum", lambda self, values: scores.append(values) or values)
    for world in worlds:
        task.evaluate(model, world)
    assert (sum(scores) / 2).sum(0).tolist() == pytest.approx(list(alone.values()))
    assert all((score == 0).all(1).sum() == 1 for score in scores)


def test_never_on_the_test_shapes(tmp_path: Path) -> None:
    task = ShapeTask(tiny(tmp_path, "signals.val=0.0"))
    model = constant(task.model())
    assert all(name.startswith("train/") for name in [*task.evaluate(model, ALONE), *task.pictures(model)])


def test_a_training_learns_and_is_kept(tmp_path: Path) -> None:
    board = ["logging.tensorboard=true", "logging.pictures_every=20", "training.steps=40"]
    trainer = train(tiny(tmp_path, *board))
    assert 0 < trainer.figures["val/distance_omp2"] < 0.05 and 0.5 < trainer.figures["val/sign_omp2"] < 1
    loaded = nid_dist.load(tmp_path / "run")
    again = nid_dist.load(export(loaded, tmp_path / "exported"))
    assert again.grid_shape == (6, 6, 6) and again.dictionary.in_dim == 3
    batch = trainer.task.batch(0, 0, ALONE)
    untrained, *outputs = (
        model.dictionary(model.encode(batch.samples.values, batch.ids), batch.samples.coords).detach()
        for model in (trainer.task.model(), trainer.model, loaded, again)
    )
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[1], outputs[2])
    errors = [(values - batch.samples.values).square().mean() for values in (untrained, outputs[0])]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("layers", [1, 2])
def test_micro_batches_train_like_the_whole(tmp_path: Path, layers: int) -> None:
    few = ["training.steps=4", f"dictionary.private_layers={layers}"]
    trained = [
        train(tiny(tmp_path, *few, f"optimizer.accumulation={count}", f"logging.run_dir={tmp_path / str(count)}"))
        for count in (1, 3)
    ]
    one, other = (dict(trainer.model.named_parameters()) for trainer in trained)
    for name, parameter in one.items():
        torch.testing.assert_close(other[name], parameter, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("coding.gate.kind=light", "'light' cannot read the points of signals.source 'shapes'"),
        ("coding.gate.kind=unrolled", "choose codebook"),
        ("signals.augment=true", "set signals.augment to false"),
        ("signals={source: shapes, path: here, augment: true}", "a codebook's code for each shape"),
        ("signals.families=[sofa]", "sofa"),
        ("signals.families=[]", "signals.families"),
        ("signals.near_surface=1.5", "signals.near_surface"),
        ("signals.truncation=0", "signals.truncation"),
    ],
)
def test_what_shapes_cannot_do_is_said(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        tiny(tmp_path, override)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_dictionary_of_shapes_refuses_images(task: ShapeTask) -> None:
    with pytest.raises(UserError, match="the dictionary: found one of shapes"):
        fit_image(task.model(), np.zeros((8, 8, 1), np.float32), [])


def test_commands_for_images_say_that_a_dictionary_is_of_shapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny(tmp_path, "training.steps=1"))
    capsys.readouterr()
    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture)
    run, out = str(tiny(tmp_path).logging.run_dir), tmp_path / "out"
    for main, given in ((evaluate.main, []), (fit.main, ["--input", str(picture)])):
        assert main(["--dictionary", run, "--out", str(out), *given]) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1 and f"{run}: found one of shapes" in said.err
    assert not out.exists()
