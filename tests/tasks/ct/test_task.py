"""CT as a task: what the gate sees, and what it does not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nid_dist.config import load_config
from nid_dist.errors import UserError
from nid_dist.export import load
from nid_dist.measurements.back_projection import BackProjection
from nid_dist.measurements.geometry import Geometry
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.tasks.ct.phantoms import named_phantom
from nid_dist.tasks.ct.task import CTTask
from nid_dist.tasks.registry import make_task
from nid_dist.training.run import train
from tests.tiny import write_pictures
from tests.tiny_ct import tiny_ct


def alone(task: CTTask) -> World:
    return World(Topology(task.config.dictionary.experts))


def test_values_are_images_and_the_gate_sees_scans(tmp_path: Path) -> None:
    task = make_task(tiny_ct(tmp_path, "tomography.views=[4]", "tomography.evaluated=[4]", "tomography.photons=[null]"))
    assert isinstance(task, CTTask)
    batch = task.batch(3, 0, alone(task))
    for place, index in enumerate(batch.ids.tolist()):
        phantom = named_phantom(task.refs["train"][index].name, 0)
        assert np.allclose(batch.samples.values[place].numpy(), phantom.image(17).reshape(-1, 1), atol=1e-6)
        geometry = Geometry.even(4, 17)
        seen = BackProjection(geometry, 17)(torch.from_numpy(phantom.sinogram(geometry))[None]).float()
        assert torch.allclose(batch.gate_input[place], seen.clamp(0, 1).reshape(-1, 1), atol=1e-4)


def test_scans_depend_on_seed_and_step_alone(tmp_path: Path) -> None:
    tasks = [make_task(tiny_ct(tmp_path)) for _ in range(2)]
    first, second = (task.batch(5, 0, alone(task)) for task in tasks)
    assert torch.equal(first.gate_input, second.gate_input)
    assert not torch.equal(first.gate_input, tasks[0].batch(6, 0, alone(tasks[0])).gate_input)
    # The second micro-batch is the second half of the whole.
    half = make_task(tiny_ct(tmp_path, "optimizer.accumulation=2")).batch(5, 1, alone(tasks[0]))
    assert torch.allclose(half.gate_input, first.gate_input[4:], atol=1e-6)


def test_nothing_of_the_image_reaches_the_gate(tmp_path: Path) -> None:
    """The gate's gradient step on a batch is the same, bit for bit, whatever the images are, as long as scans are."""
    task = make_task(tiny_ct(tmp_path))
    batch = task.batch(0, 0, alone(task))
    model = task.model()
    batch.samples.values.fill_(torch.nan)
    assert bool(model.gate_output(batch.gate_input, batch.ids).logits.isfinite().all())


def test_without_a_gate_nothing_is_scanned(tmp_path: Path) -> None:
    task = make_task(tiny_ct(tmp_path, "coding.gate.kind=none", "coding.phases=[{mode: solve}]"))
    assert task.batch(0, 0, alone(task)).make_gate_input is None


def test_trains_evaluates_and_learns(ct_run: Path) -> None:
    """Under the prior, four views say more than they do to OMP; the gate knows more than the mean phantom."""
    model = load(ct_run)
    task = make_task(model.config)
    figures = task.evaluate(model, alone(task))
    assert set(figures) == {
        "val/db_omp2",
        *(f"val/db_{name}_4" for name in ("init", "ridge", "omp2", "map2")),
        "val/mahalanobis",
    }
    assert figures["val/db_map2_4"] > figures["val/db_omp2_4"] and figures["val/db_ridge_4"] > figures["val/db_init_4"]
    images = np.stack([named_phantom(f"phantom-{i:05d}", 0).image(17) for i in range(10, 50)])
    mean = float(np.mean([-10 * np.log10(np.square(image - images.mean(0)).mean()) for image in images[:8]]))
    assert figures["val/db_map2_4"] > mean + 2
    picture = task.pictures(model)
    assert [image.shape for image in picture.values()] == [(17, 6 * 17, 1)]


def test_a_folder_of_pictures_and_slices(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "slices", ("a.png", "b.png", "c.png", "d.png"))
    overrides = [f"signals.path={folder}", "signals.source=folder", "signals.val=[c.png]", "signals.test=[d.png]"]
    trainer = train(tiny_ct(tmp_path / "run", *overrides, "training.steps=3", "training.batch=2"))
    assert trainer.step == 3 and np.isfinite(list(trainer.figures.values())).all()
    # Corners lie outside the disc.
    values = trainer.task.sample(2).values.reshape(2, 17, 17)
    assert float(values[:, 0, 0].abs().max()) == 0 and float(values[:, 8, 8].min()) > 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("signals.colour=rgb", "whole grey images"),
        ("signals.patch=8", "whole grey images"),
        ("signals.augment=true", "signals.augment to false"),
        ("tomography.views=[4, 6, 16]", "6 does not divide the largest, 16"),
        ("tomography.evaluated=[32]", "not among views"),
        ("tomography.source=0.9", "tomography.source"),
        ("tomography.views=[]", "tomography.views"),
        ("tomography.view=[4]", "view"),
        ("coding.gate.kind=codebook", "cannot read scans"),
        ("signals.size=null", "signals.size"),
    ],
)
def test_a_configuration_that_cannot_be(override: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        tiny_ct(tmp_path, override)


def test_phantoms_without_scans_are_images() -> None:
    overrides = ["signals.source=phantoms", "signals.size=12", "signals.patch=null", "signals.phantoms=5"]
    task = make_task(load_config(None, overrides))
    assert not isinstance(task, CTTask) and task.sample(2).values.shape == (2, 144, 3)
