"""The prior that a training ends with: moments of the merged heads of its codes, on one rank or on several."""

from pathlib import Path

import pytest
import torch

import nid_dist
from nid_dist.coding.method import Method
from nid_dist.coding.solvers import solve_codes
from nid_dist.config import Config
from nid_dist.fitting import fit_signals
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.world import World
from nid_dist.tasks.images.task import ImageTask
from nid_dist.training.prior import update_prior
from tests.parallel.processes import run as run_processes
from tests.tiny import images, run, tiny

__all__ = ["images", "run"]
METHODS = [Method("fista"), Method("irls", 2), Method("map", 2), Method("ridge"), Method("adam", 3), Method("omp")]


def config_of(images: Path, folder: Path, *more: str) -> Config:
    folder.mkdir(exist_ok=True)
    return tiny(images, folder, "coding.prior_rank=6", "coding.prior_signals=37", "coding.ridge=1e-3", *more)


def test_moments_of_merged_heads(images: Path, tmp_path: Path) -> None:
    task = ImageTask(config_of(images, tmp_path))
    model = task.model()
    assert model.prior is None
    update_prior(model, task, World(Topology(32)))
    sample = task.sample(37)
    code = solve_codes(model.dictionary, sample, 4, 2, 1e-3).code
    rows = model.dictionary.experts.rows.detach()
    heads = torch.stack([v @ rows[j] for v, j in zip(code.values, code.indices, strict=True)])
    heads[:, -3:] += code.bias
    assert model.prior is not None
    torch.testing.assert_close(model.prior.mean, heads.mean(0), rtol=1e-4, atol=1e-5)
    values = torch.linalg.eigvalsh(torch.cov(heads.t(), correction=0)).flip(0)
    torch.testing.assert_close(model.prior.variances, values[:6], rtol=1e-3, atol=1e-6)
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


@pytest.mark.parametrize("world", [2])
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
