"""The prior that a training ends with: moments of dense heads, on one rank or on several."""

from pathlib import Path

import numpy as np
import pytest
import torch

import nid_dist
from nid_dist.coding.method import Method
from nid_dist.config import Config
from nid_dist.fitting import fit_signals
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.world import World
from nid_dist.tasks.images.task import ImageTask
from nid_dist.training.prior import RIDGE, update_prior
from tests.parallel.processes import run as run_processes
from tests.tiny import images, run, tiny

__all__ = ["images", "run"]
METHODS = [Method("fista"), Method("irls", 2), Method("map", 2), Method("ridge"), Method("adam", 3), Method("omp")]


def config_of(images: Path, folder: Path, *more: str) -> Config:
    folder.mkdir(exist_ok=True)
    return tiny(images, folder, "coding.prior_rank=6", "coding.prior_signals=37", "coding.ridge=1e-3", *more)


def test_moments_of_dense_heads(images: Path, tmp_path: Path) -> None:
    """Heads fitted by least squares, with numpy, and their mean and covariance."""
    task = ImageTask(config_of(images, tmp_path))
    model = task.model()
    assert model.prior is None
    update_prior(model, task, World(Topology(32)))
    sample = task.sample(37)
    with torch.no_grad():
        features = model.dictionary.trunk(sample.coords).double().numpy()
    centred, target = features - features.mean(0), sample.values.double().numpy()
    gram = centred.T @ centred / len(centred)
    system = gram + RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    weight = np.linalg.solve(system, np.einsum("ch,scd->shd", centred, target) / len(centred)).transpose(0, 2, 1)
    offset = target.mean(1) - weight @ features.mean(0)
    heads = np.concatenate([weight.reshape(len(weight), -1), offset], 1)
    assert model.prior is not None
    np.testing.assert_allclose(model.prior.mean, heads.mean(0), rtol=1e-3, atol=1e-4)
    values = np.linalg.eigvalsh(np.cov(heads.T, bias=True))[::-1]
    np.testing.assert_allclose(model.prior.variances, values[:6], rtol=1e-3, atol=1e-6)
    basis = model.prior.basis
    torch.testing.assert_close(basis.t() @ basis, torch.eye(6), rtol=0, atol=1e-5)


def test_a_finished_run_has_one_and_its_export_too(run: Path, tmp_path: Path) -> None:
    model = nid_dist.load(run)
    assert model.prior is not None and len(model.prior.variances) >= 1
    nid_dist.export.export(model, tmp_path / "exported")
    exported = nid_dist.load(tmp_path / "exported").prior
    assert exported is not None and torch.equal(exported.mean, model.prior.mean)
    # An earlier checkpoint, of an unfinished run, has none.
    first = sorted((run / "checkpoints").iterdir())[0]
    assert nid_dist.load(first).prior is None


def several(rank: int, world: int, folder: Path, images: Path) -> dict[str, torch.Tensor]:
    task = ImageTask(config_of(images, folder / f"own-{rank}"))
    topology = Topology(32, world_size=world, rank=rank, expert_parallel_size=2)
    ranks = ProcessGroupWorld(topology, rows=16 // world)
    model = task.model(ranks.exchange)
    update_prior(model, task, ranks)
    assert model.prior is not None
    found = {"mean": model.prior.mean, "variances": model.prior.variances}
    fits = fit_signals(model.eval(), Sampling(model.coords), task.sample(5).values, METHODS)
    return found | {label: fit.code.dense(32) for label, fit in fits.items()}


@pytest.mark.parametrize("world", [2, 4])
def test_several_ranks_learn_and_solve_like_one(images: Path, tmp_path: Path, world: int) -> None:
    (tmp_path / "group").mkdir()
    ranks = run_processes(several, world, tmp_path / "group", tmp_path, images)
    task = ImageTask(config_of(images, tmp_path / "alone"))
    model: Model = task.model()
    update_prior(model, task, World(Topology(32)))
    assert model.prior is not None
    fits = fit_signals(model.eval(), Sampling(model.coords), task.sample(5).values, METHODS)
    for found in ranks:
        torch.testing.assert_close(found["mean"], model.prior.mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["variances"], model.prior.variances, rtol=1e-4, atol=1e-6)
        for label, fit in fits.items():
            expected = fit.code.dense(32)
            assert (found[label] - expected).norm() < 1e-3 * (1 + expected.norm()), label
