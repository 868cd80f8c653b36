"""Images as signals: batches that depend on the step alone, and fits that are rendered at any size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nid_dist
from nid_dist.coding.method import Method
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.data.reading import to_colour
from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.model import Model
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.tasks.base import methods_of, split_to_evaluate
from nid_dist.tasks.images import task as module
from nid_dist.tasks.images.fit import fit_image
from nid_dist.tasks.images.task import ImageTask
from nid_dist.training.run import train
from tests.tiny import picture, tiny, write_pictures

OMP = [Method("omp")]
ALONE = World(Topology(32))


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return nid_dist.load(run)


def pixels(seed: int, height: int, width: int) -> np.ndarray:
    return picture(seed, height, width).astype(np.float32) / 255


def task(images: Path, *overrides: str) -> ImageTask:
    return ImageTask(tiny(images, images / "never", *overrides))


def test_splits_are_kept_apart(images: Path) -> None:
    made = task(images)
    assert {split: [ref.name for ref in refs] for split, refs in made.refs.items()} == {
        "train": ["a.png", "b.png", "c.png"],
        "val": ["d.png"],
        "test": ["e.png"],
    }
    assert len(made.signals) == 3 * 5 * 7  # 24 x 32 pixels, patches of 8, stride 4
    assert [name for name, _ in made.images("test")] == ["e.png"]
    assert [name for name, _ in made.images("train", 2)] == ["a.png", "b.png"]


def test_micro_batches_are_the_parts_of_the_batch(images: Path) -> None:
    overrides = ["signals.augment=true", "training.coordinates=10"]
    whole = task(images, *overrides).batch(3, 0, ALONE)
    cut = task(images, *overrides, "optimizer.accumulation=4")
    parts = [cut.batch(3, micro, ALONE) for micro in range(4)]
    assert torch.equal(torch.cat([part.ids for part in parts]), whole.ids)
    assert torch.equal(torch.cat([part.samples.values for part in parts]), whole.samples.values)
    assert whole.samples.values.shape == (16, 10, 3) and whole.gate_input.shape == (16, 64, 3)
    assert all(torch.equal(part.samples.coords, whole.samples.coords) for part in parts)
    chosen = [coordinate_grid((8, 8)).tolist().index(point) for point in whole.samples.coords.tolist()]
    assert torch.equal(whole.gate_input[:, chosen], whole.samples.values) and len(set(chosen)) == 10
    assert torch.equal(torch.cat([part.noise_seeds for part in parts]), whole.noise_seeds)
    assert len(set(whole.noise_seeds.tolist())) == len(whole.ids)
    again = task(images, *overrides).batch(3, 0, ALONE)
    assert torch.equal(again.samples.values, whole.samples.values) and torch.equal(again.noise_seeds, whole.noise_seeds)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_the_ranks_parts_are_the_batch_and_their_weighted_means_its_mean(images: Path, ranks: int) -> None:
    made = task(images, "training.batch=8", "optimizer.accumulation=2")
    for micro in range(2):
        whole = made.batch(1, micro, ALONE)
        parts = [made.batch(1, micro, World(Topology(32, ranks, rank))) for rank in range(ranks)]
        filled = [part for part in parts if part.weight]
        assert torch.equal(torch.cat([part.samples.values for part in filled]), whole.samples.values)
        assert torch.equal(torch.cat([part.noise_seeds for part in filled]), whole.noise_seeds)
        means = torch.stack([part.weight * part.samples.values.mean(0) for part in parts])
        torch.testing.assert_close(means.mean(0), whole.samples.values.mean(0))
        # With five ranks for four signals one has nothing to do, but takes part.
        assert [len(part.ids) for part in parts] == {2: [2, 2], 3: [2, 1, 1], 5: [1, 1, 1, 1, 1]}[ranks]
        assert len(filled) == min(ranks, 4)


def test_values_are_the_patches_of_the_pictures(images: Path) -> None:
    made = task(images, "training.batch=105")
    batch = made.batch(0, 0, ALONE)
    assert sorted(batch.ids.tolist()) == list(range(105))
    position = batch.ids.tolist().index(35 + 8)  # second picture, second row of patches, second column
    patch = pixels(1, 24, 32)[4:12, 4:12]
    np.testing.assert_allclose(batch.samples.values[position].numpy(), patch.reshape(64, 3), atol=1e-6)


def test_a_codebook_and_augmentation_contradict(images: Path) -> None:
    with pytest.raises(UserError, match=r"signals.augment: found true with coding.gate.kind codebook"):
        task(images, "signals.augment=true", "coding.gate.kind=codebook")


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (8, 8), (7, 9), (24, 32), (25, 31)])
def test_any_size_is_fitted_and_comes_back(model: Model, size: tuple[int, int]) -> None:
    image = pixels(9, *size)
    fits = fit_image(model, image, [Method("init"), Method("ridge"), Method("omp")])
    for result in fits.values():
        shown = result.render()
        assert shown.shape == image.shape and shown.dtype == np.float32
        assert shown.min() >= 0 and shown.max() <= 1
    assert psnr(fits["omp"].render(), image) > 18


def test_f_is_queried_at_other_resolutions(model: Model) -> None:
    result = fit_image(model, pixels(9, 24, 32), OMP)["omp"]
    own = result.render()
    for scale in (0.5, 1.5, 2, 3):
        height, width = round(24 * scale), round(32 * scale)
        assert result.render(height, width).shape == (height, width, 3)
    # Pixel centres coincide where the scale is odd: f at the middle of each 3 x 3 block is f at the pixel.
    np.testing.assert_allclose(result.render(72, 96)[1::3, 1::3], own, atol=1e-5)


def test_rendering_in_small_parts_is_the_same(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    result = fit_image(model, pixels(9, 21, 30), OMP)["omp"]
    for size in ((21, 30), (50, 33)):
        whole = result.render(*size)
        for numbers in (16 * 7, 16 * 200):
            monkeypatch.setattr("nid_dist.model._FLOATS", numbers)
            np.testing.assert_allclose(result.render(*size), whole, atol=1e-5)
        monkeypatch.undo()


def test_overlap_blends_and_helps(model: Model) -> None:
    image = pixels(9, 24, 32)
    plain, blended = (fit_image(model, image, OMP, stride)["omp"] for stride in (None, 4))
    assert plain.code.signals == 12 and blended.code.signals == 35
    assert psnr(blended.render(), image) > psnr(plain.render(), image)


@pytest.mark.parametrize("size", [(12, 12), (20, 31), (5, 4), (1, 1)])
def test_whole_images_of_any_size(images: Path, size: tuple[int, int]) -> None:
    whole = task(images, "signals.patch=null", "signals.size=12", "coding.gate={kind: light, width: 4}").model()
    whole.eval().requires_grad_(False)
    image = pixels(9, *size)
    fits = fit_image(whole, image, [Method("init"), Method("ridge"), Method("omp")])
    assert all(result.render().shape == image.shape for result in fits.values())
    assert all(result.render(40, 50).shape == (40, 50, 3) for result in fits.values())
    assert fits["omp"].code.signals == 1
    errors = [psnr(result.render(), image) for result in fits.values()]
    assert errors[1] >= errors[0] - 0.1


def test_other_channels_are_refused(model: Model, images: Path) -> None:
    grey = to_colour(pixels(9, 16, 16), "grey")
    with pytest.raises(UserError, match=r"found 1 channel\(s\), expected 3, .*signals.colour is rgb"):
        fit_image(model, grey, OMP)
    with pytest.raises(UserError, match=r"found 3 channel\(s\), expected 1"):
        fit_image(task(images, "signals.colour=grey").model(), pixels(9, 16, 16), OMP)


def test_the_next_steps_are_read_ahead(images: Path) -> None:
    made = task(images)
    asked: list[torch.Tensor] = []
    made.signals.prefetch = lambda ids, _: asked.append(ids)  # type: ignore[method-assign]
    made.prefetch(4, ALONE)
    assert torch.equal(asked[0], made.batch(4, 0, ALONE).ids)


def evaluated(images: Path, *overrides: str) -> tuple[Model, ImageTask]:
    made = task(images, *overrides)
    return made.model().eval(), made


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("light", ["init", "ridge", "omp2"]), ("codebook", ["omp2"]), ("none", ["omp2"])],
)
def test_methods_are_those_that_the_gate_allows(images: Path, kind: str, labels: list[str]) -> None:
    model, made = evaluated(images, f"coding.gate.kind={kind}", "coding.phases=[{mode: solve}]")
    assert [method.label for method in methods_of(model, 2)] == labels
    assert list(made.evaluate(model, ALONE)) == [f"val/db_{label}" for label in labels]


def test_never_on_the_test_images(images: Path) -> None:
    assert split_to_evaluate(task(images).refs) == "val"
    model, made = evaluated(images, "signals.val=0.0")
    assert split_to_evaluate(made.refs) == "train"
    assert all(name.startswith("train/") for name in [*made.evaluate(model, ALONE), *made.pictures(model)])


@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_an_image_beside_its_reconstruction_and_the_error(images: Path, colour: str) -> None:
    model, made = evaluated(images, f"signals.colour={colour}")
    ((name, shown),) = made.pictures(model).items()
    original, reconstruction, error = np.split(shown, 3, axis=1)
    _, image = next(made.images("val"))
    assert name == "val/d.png" and np.array_equal(original, image)
    expected = np.clip(8 * np.abs(reconstruction - image).mean(2), 0, 1)
    np.testing.assert_allclose(error, np.broadcast_to(expected[..., None], image.shape), atol=1e-5)
    assert error.mean() < 0.9


def test_of_a_large_image_the_middle_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SIDE", 16)
    images = write_pictures(tmp_path / "images")
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[16:32, 24:40] = 200
    Image.fromarray(pixels).save(images / "d.png")
    model, made = evaluated(images)
    shown = made.pictures(model)["val/d.png"]
    assert shown.shape == (16, 48, 3)
    np.testing.assert_allclose(shown[:, :16], 200 / 255, atol=1e-6)
    whole, made = evaluated(images, "signals.patch=null", "signals.size=20")
    assert made.pictures(whole)["val/d.png"].shape == (20, 60, 3)


@pytest.mark.parametrize("modes", [["gate"], ["solve", "distill"]])
def test_the_frames_of_a_video(tmp_path: Path, modes: list[str]) -> None:
    """A signal is a frame, in the order of the names; a codebook has a row for each."""
    frames = write_pictures(tmp_path / "frames", tuple(f"{number:04d}.png" for number in range(8)))
    whole = ["signals.patch=null", "signals.stride=null", "signals.size=12", "signals.val=0.0", "signals.test=0.0"]
    phases = f"coding.phases=[{', '.join(f'{{mode: {mode}}}' for mode in modes)}]"
    lasting = ["coding.gate.kind=codebook", phases, "training.coordinates=50", "training.steps=60", "training.batch=8"]
    rates = ["optimizer.gate_lr=3e-2", "optimizer.lr=1e-2"]
    trainer = train(tiny(frames, tmp_path / "run", *whole, *lasting, *rates))
    assert "train/db_omp2" in trainer.figures and trainer.model.signals == 8
    codes = nid_dist.load(tmp_path / "run")
    every = torch.arange(8)
    values = trainer.task.batch(0, 0, ALONE).samples.values.new_zeros(8, 144, 3)  # a codebook does not look
    shown = codes.dictionary(codes.encode(values, every), codes.coords)
    truth = torch.stack(
        [torch.from_numpy(image).flatten(0, 1) for _, image in ImageTask(trainer.config).images("train")]
    )
    assert (shown - truth).square().mean() < 0.5 * (truth - truth.mean((1, 2), keepdim=True)).square().mean()
