"""The whole chain in small: meshes, samples, a dictionary, a surface from a sparse cloud; and what can be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from nid_dist.cli.prepare import main as prepare
from nid_dist.cli.reconstruct import main
from nid_dist.config import load_config
from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.tasks.shapes.fitting import place_cloud
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.shapes.point_clouds import Cloud
from nid_dist.tasks.shapes.prepared import PreparedShapes
from nid_dist.training.run import train

SIZES = """
signals: {source: shapes, augment: true, stretch: 0.1, turn: 0, cloud: 64, lattice: 8}
dictionary: {experts: 96, width: 48, shared_layers: 2, encoding: {kind: fourier, features: 48, scale: 4, mirror: 0}}
coding: {support: 32, blocks: 2, ridge: 1.0e-4, prior_rank: 16, prior_signals: 32, gate: {kind: pointnet, width: 8},
         phases: [{mode: solve}]}
parallel: {device: cpu}
optimizer: {warmup_steps: 0, trunk_lr: 1.0e-3}
training: {steps: 12, batch: 8, coordinates: 400, eval_every: 0, checkpoint_every: 0}
logging: {log_every: 1, tensorboard: false, progress: false, pictures_every: 0}
"""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with meshes, samples and a run."""
    folder = tmp_path_factory.mktemp("chain")
    assert prepare(["furniture", "--out", str(folder / "meshes"), "--count", "12", "--families", "chair"]) == 0
    given = ["--input", str(folder / "meshes"), "--layout", "shapenet-v2", "--out", str(folder / "prepared")]
    given += ["--splits", str(folder / "meshes/splits.json"), "--samples", "4000", "--surface", "800", "--grid", "8"]
    assert prepare(["shapes", *given, "--cores", "1"]) == 0
    (folder / "shapes.yaml").write_text(SIZES)
    config = load_config(
        folder / "shapes.yaml", [f"signals.path={folder / 'prepared'}", f"logging.run_dir={folder / 'run'}"]
    )
    train(config)
    return folder


def cloud(chain: Path, count: int) -> tuple[np.ndarray, Path]:
    """Points and normals of the test chair in its mesh's units, and the mesh."""
    source = PreparedShapes(chain / "prepared")
    index = next(i for i in range(len(source.names)) if source.split(i) == "test")
    points, normals = source.surface(index, count, np.random.default_rng(0))
    world = source.placement(index).to_world(points)
    return np.concatenate([world, normals], 1), chain / "meshes" / source.names[index] / "models/model_normalized.obj"


def reconstruct(chain: Path, points: Path, out: Path, *more: str) -> int:
    given = ["--dictionary", str(chain / "run"), "--points", str(points), "--out", str(out), "--resolution", "32"]
    return main([*given, *more])


@pytest.mark.parametrize("normals", [True, False])
def test_from_meshes_to_a_surface(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], normals: bool
) -> None:
    columns, mesh = cloud(chain, 400)
    moved = columns * ([3.0] * 3 + [1.0] * 3) + [50.0, 0, 0, 0, 0, 0]  # other units, far from the cube
    np.savetxt(tmp_path / "cloud.xyz", moved)
    truth = tmp_path / "truth.obj"
    lines = [line.split() for line in mesh.read_text().splitlines()]
    placed = [
        ["v", *(str(3 * float(x) + s) for x, s in zip(row[1:], (50, 0, 0), strict=True))]
        for row in lines
        if row[:1] == ["v"]
    ]
    faces = [row for row in lines if row[:1] == ["f"]]
    truth.write_text("\n".join(" ".join(row) for row in [*placed, *faces]) + "\n")
    capsys.readouterr()
    out = tmp_path / "out"
    more = ["--normals"] if normals else []
    code = reconstruct(
        chain, tmp_path / "cloud.xyz", out, "--truth", str(truth), "--format", "ply", "obj", "glb", *more
    )
    assert code == 0
    assert "next: look at picture.png" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        "mesh.ply", "mesh.obj", "mesh.glb", "picture.png", "results.json", "codes.safetensors"
    }  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    assert results["coefficients"] <= 32 and results["points"] == 400 and results["normals"] is normals
    found, expected = read_mesh(out / "mesh.ply"), read_mesh(truth)
    assert np.abs(found.vertices.mean(0) - expected.vertices.mean(0)).max() < 1.5
    # In units of the mesh, whose longest side is 5.4: a fourteenth of it, or a tenth, however little was learned.
    assert results["metrics"]["chamfer"] < (0.07 if normals else 0.1) * 5.4


def test_bad_input_is_said_and_nothing_is_written(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns, _ = cloud(chain, 50)
    np.save(tmp_path / "far.npy", columns[:, :3] + 10)
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    np.save(tmp_path / "zero.npy", columns * ([1.0] * 3 + [0.0] * 3))
    out = tmp_path / "out"
    for name, more, found in (
        ("far.npy", ["--frame", "cube"], "50 of 50 points outside"),
        ("none.npy", [], "no point"),
        ("zero.npy", ["--normals"], "50 of 50 normals without length"),
        ("gone.npy", [], "no such file"),
        ("far.npy", ["--resolution", "4"], "--resolution: found 4"),
        ("far.npy", ["--truth", str(tmp_path / "gone.obj")], "no such file"),
    ):
        assert reconstruct(chain, tmp_path / name, out, *more) == 2
        said = capsys.readouterr()
        assert found in said.err and said.err.count("\n") == 1 and not out.exists()


def test_outliers_do_not_place_the_box() -> None:
    generator = np.random.default_rng(0)
    points = generator.uniform(-1, 1, (200, 3))
    spoiled = Cloud(np.concatenate([points, [[40.0, 0, 0], [0, -30.0, 0]]]))
    with pytest.warns(DoubtfulMeaning, match="cloud: found 2 of 202 points far from all others"):
        placement = place_cloud(spoiled, "fit", "cloud")
    assert placement.scale == pytest.approx(1 / 0.9, rel=0.05)
    assert place_cloud(Cloud(0.5 * points), "cube", "cloud").scale == 1
    with pytest.raises(UserError, match="outside"):
        place_cloud(spoiled, "cube", "cloud")
