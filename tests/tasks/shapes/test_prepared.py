"""PreparedDictionary shapes: what is written is what the solid's own distances are; slices; damage."""

from pathlib import Path

import numpy as np
import pytest

from nid_dist.errors import UserError
from nid_dist.tasks.shapes.augmentation import Change, change_samples, draw_matrix, fitted_change
from nid_dist.tasks.shapes.furniture import solid_mesh, write_furniture
from nid_dist.tasks.shapes.preparation import Settings, prepare_shape, sample_mesh
from nid_dist.tasks.shapes.prepared import INDEX, PreparedShapes, shape_file, write_index
from nid_dist.tasks.shapes.shapenet import MeshFile, find_meshes
from nid_dist.tasks.shapes.signals import ProceduralShapes

SETTINGS = Settings(samples=2000, surface=300, grid=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    write_furniture(root / "meshes", 3, ["chair", "table"], 0, "shapenet-v2")
    files = find_meshes(root / "meshes", "shapenet-v2", [], root / "meshes" / "splits.json")
    outcomes = [prepare_shape(file, root / "prepared", SETTINGS) for file in files]
    write_index(root / "prepared", vars(SETTINGS), {each.name: each.facts for each in outcomes}, {})
    return root / "prepared"


def test_samples_are_the_solids_own_distances(folder: Path) -> None:
    source, solids = PreparedShapes(folder), ProceduralShapes(3, ["chair", "table"], 0)
    assert list(source.names) == ["03001627/chair-00000", "03001627/chair-00002", "04379243/table-00001"]
    assert [source.split(index) for index in range(3)] == ["val", "train", "test"]
    for index, place in enumerate((0, 2, 1)):
        points, distances, gradients = source.sample_with_gradients(index, 500, 0.8, np.random.default_rng(1))
        # The cube of the preparation is about the prisms, that of the solid about the rods.
        moved = source.placement(index).to_world(points)
        true = solids.solid(place).distance(moved) / source.placement(index).scale
        outside = true > 0.02
        np.testing.assert_allclose(distances[outside], true[outside], atol=9e-3)
        assert ((distances < 0) != (true < 0))[np.abs(true) > 9e-3].mean() < 0.002
        np.testing.assert_allclose(np.linalg.norm(gradients, axis=1), 1, atol=2e-3)
        assert points.shape == (500, 3) and (np.abs(distances) < 0.1).mean() > 0.3
        on, normals = source.surface(index, 200, np.random.default_rng(0))
        assert np.abs(solids.solid(place).distance(source.placement(index).to_world(on))).max() < 9e-3
        assert normals.shape == (200, 3) and source.mesh(index).faces.min() == 0
        centres = np.random.default_rng(2).uniform(-0.9, 0.9, (300, 3))
        rough = source.distance(index, centres)
        exact = solids.solid(place).distance(source.placement(index).to_world(centres))
        assert np.abs(rough - exact)[exact > 0].mean() < 0.03


def test_draws_depend_on_the_generator_and_wrap_round(folder: Path) -> None:
    source = PreparedShapes(folder)
    one, same, other = (source.sample(0, 64, 0.5, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    many, _ = source.sample(0, 5000, 1.0, np.random.default_rng(0))
    # More than there are: each of the 1600 no more often than one in four.
    assert np.unique(many, axis=0, return_counts=True)[1].max() <= 4 and len(many) == 5000


def test_prepared_again_is_kept_or_done_anew(folder: Path, tmp_path: Path) -> None:
    file = MeshFile("x", tmp_path / "x.obj")
    file.path.write_bytes((folder.parent / "meshes/03001627/chair-00000/models/model_normalized.obj").read_bytes())
    first = prepare_shape(file, tmp_path / "out", SETTINGS)
    assert first.facts is not None and not first.kept
    second = prepare_shape(file, tmp_path / "out", SETTINGS)
    assert second.kept and second.facts == first.facts
    shape_file(tmp_path / "out", "x").write_bytes(shape_file(tmp_path / "out", "x").read_bytes()[:5000])
    assert not prepare_shape(file, tmp_path / "out", SETTINGS).kept or shape_file(tmp_path / "out", "x").stat().st_size
    assert prepare_shape(file, tmp_path / "out", Settings(samples=2100, surface=300, grid=16)).kept is False


def test_a_mesh_that_cannot_be_trusted_is_left_out_with_its_reason() -> None:
    mesh = solid_mesh(ProceduralShapes(1, ["lamp"], 0).solid(0))
    # One of three.
    beside = np.concatenate([mesh.vertices + np.array([2.0 * place, 0, 0]) for place in range(3)])
    faces = np.concatenate([mesh.faces[:, ::-1], mesh.faces + len(mesh.vertices), mesh.faces + 2 * len(mesh.vertices)])
    with pytest.raises(UserError, match="inside out"):
        sample_mesh(type(mesh)(beside, faces), SETTINGS, "lamps")
    sheet = type(mesh)(np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 1]]), np.array([[0, 1, 2]]))
    with pytest.raises(UserError, match="ambiguous winding numbers"):
        sample_mesh(sheet, SETTINGS, "sheet")
    with pytest.raises(UserError, match="no surface that bounds"):
        sample_mesh(sheet, Settings(samples=100, ambiguous=1.0), "sheet")


def test_a_mesh_that_is_inside_out_is_turned() -> None:
    mesh = solid_mesh(ProceduralShapes(1, ["lamp"], 0).solid(0))
    right, facts = sample_mesh(mesh, SETTINGS, "lamp")
    turned, others = sample_mesh(type(mesh)(mesh.vertices, mesh.faces[:, ::-1].copy()), SETTINGS, "lamp")
    assert not facts["turned"] and others["turned"]
    np.testing.assert_allclose(turned["grid"], right["grid"], atol=1e-3)


def test_a_full_disk_leaves_nothing_half_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder.parent / "meshes/03001627/chair-00000/models/model_normalized.obj"
    written = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        written(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        prepare_shape(MeshFile("x", path), tmp_path / "out", SETTINGS)
    assert not any((tmp_path / "out").iterdir())


def test_damage_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no index of prepared shapes"):
        PreparedShapes(tmp_path)
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(UserError, match="a damaged index"):
        PreparedShapes(tmp_path)
    write_index(tmp_path, {}, {"gone": {}}, {})
    with pytest.raises(UserError, match="'gone' \\(1 in all\\), without its file"):
        PreparedShapes(tmp_path)
    shape_file(tmp_path, "gone").write_bytes(b"damaged")
    with pytest.raises(UserError, match="a damaged file"):
        PreparedShapes(tmp_path).sample(0, 10, 0.5, np.random.default_rng(0))


def test_without_dense_values_grids_are_refused(folder: Path, tmp_path: Path) -> None:
    path = folder.parent / "meshes/04379243/table-00001/models/model_normalized.obj"
    outcome = prepare_shape(MeshFile("x", path), tmp_path, Settings(samples=100, surface=10))
    write_index(tmp_path, {}, {"x": outcome.facts}, {})
    with pytest.raises(UserError, match="without a grid"):
        PreparedShapes(tmp_path).distance(0, np.zeros((1, 3)))


def test_changed_shapes_are_those_of_the_changed_solid() -> None:
    """A box that is mirrored, turned and stretched along its axes, against the distances of the box that results."""
    generator = np.random.default_rng(0)
    half = np.array([0.9, 0.5, 0.3])

    def box(points: np.ndarray, sides: np.ndarray) -> np.ndarray:
        beyond = np.abs(points) - sides
        return np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(1), 0)

    points = generator.uniform(-1, 1, (6000, 3))
    gradients = np.stack([box(points + step, half) - box(points - step, half) for step in 1e-6 * np.eye(3)], 1) / 2e-6
    corners = half * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    change = fitted_change(corners, draw_matrix(0.3, 0.0, generator))
    assert np.abs(change.points(corners)).max() == pytest.approx(0.9)
    fresh, picks = generator.uniform(-1, 1, (3000, 3)), generator.integers(2**31, size=3000)
    moved, distances = change_samples(change, points, box(points, half), gradients, 3000, fresh, picks)
    true = box(moved, np.abs(change.points(corners)).max(0))
    # Next to faces exact; near corners a bound; and where the cube was uncovered only known to be far.
    near = np.arange(6000) < 3000
    assert (np.sign(distances) == np.sign(true))[np.abs(true) > 1e-6].all()
    assert np.median(np.abs(distances - true)[near]) < 1e-6 and np.abs(distances - true)[near].max() < 0.2
    assert np.abs(moved[3000:]).max() <= 1
    far = np.minimum(distances, 0.1), np.minimum(true, 0.1)
    assert np.abs(far[0] - far[1])[3000:].mean() < 0.005


def test_turns_keep_distances_and_normals() -> None:
    angle = np.pi / 6
    matrix = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    change = Change(matrix, np.zeros(3))
    normals, factor = change.normals(np.eye(3))
    np.testing.assert_allclose(factor, 1)
    np.testing.assert_allclose(normals, matrix.T, atol=1e-12)
    points = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(change.back(change.points(points)), points)
