"""Every method makes a sphere of points on a sphere; figures and tables of shapes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nid_dist.baselines.config import Inr
from nid_dist.baselines.inr import Baseline
from nid_dist.comparison.runner import run_method
from nid_dist.errors import UserError
from nid_dist.tasks.comparison import ComparedMethod, Outcome, Reconstruction, Subject
from nid_dist.tasks.shapes.auto_decoder import AutoDecoder, AutoDecoderConfig, train_auto_decoder
from nid_dist.tasks.shapes.comparison import Truth, figures, report
from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.meshing import extract_surface
from nid_dist.tasks.shapes.methods import Fit, Surface, by_auto_decoder, by_network, by_poisson, by_rbf
from nid_dist.tasks.shapes.point_clouds import Cloud

RADIUS = 0.6


def truth() -> Truth:
    generator = np.random.default_rng(0)
    normals = generator.normal(size=(200, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = generator.uniform(-1, 1, (3000, 3))
    mesh = extract_surface(distance, 48, 1.0)
    assert mesh is not None
    return Truth("sphere", Cloud(RADIUS * normals, normals), points, np.linalg.norm(points, axis=1) < RADIUS, mesh)


def judged(fit: Fit) -> dict[str, float | None]:
    sphere = truth()
    surface, costs = run_method(ComparedMethod("m", fit), sphere.surface)
    return {**figures(surface, sphere.surface, sphere), **costs}


def distance(at: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.linalg.norm(at, axis=1) - RADIUS
    return found


def nothing(cloud: object, hyperparameter: float | None) -> Reconstruction:
    raise AssertionError


def test_splines_make_the_sphere() -> None:
    found = judged(by_rbf(32))
    assert found["chamfer"] is not None and found["chamfer"] < 0.01
    assert found["iou"] is not None and found["iou"] > 0.95


def test_poisson_makes_the_sphere_and_wants_normals() -> None:
    pytest.importorskip("pymeshlab", reason="the extra compare is not installed")
    found = judged(by_poisson)
    assert found["chamfer"] is not None and found["chamfer"] < 0.03
    assert found["iou"] is not None and found["iou"] > 0.9
    with pytest.raises(UserError, match="without normals"):
        by_poisson(Cloud(truth().surface.points, None), 5.0)


def test_a_network_per_shape_makes_the_sphere() -> None:
    baseline = Baseline(Inr(kind="siren", width=32, hidden_layers=1, first_omega=5, omega=15, lr=1e-3, steps=300))
    found = judged(by_network(baseline, 32))
    assert found["chamfer"] is not None and found["chamfer"] < 0.03 and found["seconds"] > 0


def test_an_auto_decoder_learns_spheres_and_is_kept(tmp_path: Path) -> None:
    config = AutoDecoderConfig(
        latent=4, width=32, layers=3, steps=500, fit_steps=60, fit_points=256, lr=4e-3, fit_lr=5e-2
    )

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(5, (8,), generator=generator)
        coords = 2 * torch.rand(8, 200, 3, generator=generator) - 1
        radius = 0.4 + 0.1 * ids[:, None, None]
        return ids, coords, ((coords.norm(dim=2, keepdim=True) - radius) / 0.3).clamp(-1, 1)

    kept = tmp_path / "kept.safetensors"
    model = train_auto_decoder(config, 5, batch, kept)
    again = train_auto_decoder(config, 5, batch, kept)
    coords = torch.rand(1, 10, 3)
    assert torch.equal(model(torch.ones(1, 4), coords), again(torch.ones(1, 4), coords))
    fitted_longer = config.model_copy(update={"fit_steps": 61})
    assert train_auto_decoder(fitted_longer, 5, batch, kept).config.fit_steps == 61
    for other, shapes in ((config.model_copy(update={"latent": 5}), 5), (config, 6)):
        with pytest.raises(UserError, match="kept.safetensors: found an auto-decoder learned by another configuration"):
            train_auto_decoder(other, shapes, batch, kept)
    found = judged(by_auto_decoder(model, 0.3, 32))
    assert found["chamfer"] is not None and found["chamfer"] < 0.12 and found["numbers"] == 4
    untrained = judged(by_auto_decoder(AutoDecoder(config, 5), 0.3, 32))
    assert untrained["chamfer"] is None or untrained["chamfer"] > found["chamfer"]


def test_means_leave_out_what_has_no_surface() -> None:
    sphere, costs = truth(), {"seconds": 2.0, "numbers": 7}
    rows = [
        {
            "points": 100,
            "shape": name,
            "method": "m",
            **figures(Surface(distance, mesh), sphere.surface, sphere),
            **costs,
        }
        for name, mesh in (("a", sphere.mesh), ("b", None))
    ]
    subject, method = Subject("a", {}, lambda: (None, None)), ComparedMethod("m", nothing)
    found, lost = (report([Outcome(subject, method, row) for row in own]) for own in (rows, rows[1:]))
    (mean,) = found.facts["means"]
    assert mean["chamfer"] == pytest.approx(0, abs=1e-6) and mean["iou"] == 1 and mean["meshed"] == 0.5
    assert mean["seconds"] == 2 and mean["shapes"] == 2
    assert "100" in found.table.markdown()
    assert lost.facts["means"][0]["chamfer"] is None and lost.table.text()


def test_a_mesh_is_not_changed_by_cutting_its_faces() -> None:
    from nid_dist.benchmarks.shapes import cut_faces

    mesh = truth().mesh
    small = Mesh(mesh.vertices, mesh.faces[:100])
    cut = cut_faces(small, 777)
    assert len(cut.faces) == 777 and cut.areas.sum() == pytest.approx(small.areas.sum())
    np.testing.assert_allclose(cut.areas @ cut.normals, small.areas @ small.normals, atol=1e-9)
