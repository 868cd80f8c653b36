"""Of any input: it is read or refused in one line, it stays as it is, and what was written is what is read."""

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nid_dist.benchmarks.bad_inputs import bodies, clouds, encoding, scans, sounds
from nid_dist.benchmarks.bad_inputs.damage import damaged
from nid_dist.code import Code, load_codes, save_codes
from nid_dist.compact.file import load_compact, save_compact
from nid_dist.compact.stream import Symbols
from nid_dist.config import Config, load_config
from nid_dist.data.reading import EXTENSIONS, read_image
from nid_dist.errors import UserError
from nid_dist.evaluation.pictures import save_image
from nid_dist.tasks.audio.reading import Sound, read_sound, write_sound
from nid_dist.tasks.ct.sinograms import read_scan
from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.shapes.mesh_writing import write_mesh
from nid_dist.tasks.shapes.point_clouds import read_cloud
from nid_dist.tasks.shapes.shapenet import read_splits

# The folder of a test serves all its examples, whose files replace one another.
few = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MAGIC = (
    *(b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*"),
    *(b"\x93NUMPY\x01\0", b"RIFF\0\0\0\0WEBP", bytes(128) + b"DICM"),
)
SEEDS = st.integers(0, 2**32 - 1)


def image(path: Path) -> None:
    values = read_image(path, "rgb")
    assert values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.float32
    assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1


def mesh(path: Path) -> None:
    found = read_mesh(path)
    assert np.isfinite(found.vertices).all() and 0 <= found.faces.min() <= found.faces.max() < len(found.vertices)
    assert (found.areas > 0).all()


def cloud(path: Path) -> None:
    found = read_cloud(path, True)
    assert np.isfinite(found.points).all() and found.normals is not None
    np.testing.assert_allclose(np.linalg.norm(found.normals, axis=1), 1)


def sound(path: Path) -> None:
    assert np.isfinite(read_sound(path).wave).all()


def sinogram(path: Path) -> None:
    geometry = path.with_name("geometry.yaml")
    geometry.write_bytes(scans._scan()["geometry.yaml"])
    assert np.isfinite(read_scan(path, geometry).sinogram).all()


def outcome(read: Callable[[Path], object], path: Path, content: bytes) -> str | None:
    """What was said of a file; None: it was read. It stays as it is."""
    path.write_bytes(content)
    said = None
    try:
        read(path)
    except UserError as error:
        said = str(error)
    assert path.read_bytes() == content
    return said


@few
@given(magic=st.sampled_from(MAGIC), rest=st.binary(max_size=200), ending=st.sampled_from(sorted(EXTENSIONS)))
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_under_any_ending_are_a_picture_or_refused(
    tmp_path: Path, magic: bytes, rest: bytes, ending: str
) -> None:
    said = outcome(image, tmp_path / f"a{ending}", magic + rest)
    assert said is None or said.startswith(str(tmp_path))


GOOD: dict[str, tuple[Callable[[Path], object], Callable[[], bytes]]] = {
    "a.png": (image, lambda: encoding.png(encoding.photograph())),
    "a.jpg": (image, lambda: encoding.by_pillow(encoding.photograph(), "JPEG")),
    "a.webp": (image, lambda: encoding.by_pillow(encoding.photograph(), "WEBP")),
    "a.tif": (image, lambda: encoding.tiff(encoding.photograph().astype(np.uint16) * 257, photometric="rgb")),
    "a.npy": (image, lambda: encoding.npy(encoding.photograph())),
    "a.wav": (sound, lambda: sounds.sound(sounds.tones())),
    "a.obj": (mesh, lambda: bodies.obj(bodies.boxes())),
    "a.ply": (mesh, lambda: bodies.ply(bodies.boxes(), "binary_little_endian")),
    "a.off": (mesh, lambda: bodies.off(bodies.boxes())),
    "a.stl": (mesh, lambda: bodies.stl(bodies.boxes())),
    "a.glb": (mesh, lambda: bodies.glb(bodies.boxes())),
    "a.xyz": (cloud, lambda: clouds.text(clouds.cloud())),
    "cloud.ply": (cloud, lambda: clouds.ply(clouds.cloud())),
    "cloud.npy": (cloud, lambda: encoding.npy(clouds.cloud())),
    "scan.npy": (sinogram, lambda: scans._scan()["scan.npy"]),
    "a.yaml": (load_config, lambda: Config().to_yaml().encode()),
    "a.json": (read_splits, lambda: b'{"train": {"1": ["a"]}, "val": {"1": {"b": [0]}}, "test": {}}'),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    read, make = GOOD[name]
    content, path = make(), tmp_path / name

    @few
    @given(seed=SEEDS)
    def holds(seed: int) -> None:
        what, bad = damaged(content, np.random.default_rng(seed), [b"GIF89a", b"\x1f\x8b", b"PK\x03\x04"])
        said = outcome(read, path, bad)
        assert said is None or name in said, what

    assert outcome(read, path, content) is None
    holds()


@few
@given(values=arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))))
def test_pictures_come_back(tmp_path: Path, values: np.ndarray) -> None:
    colour = "grey" if values.shape[2] == 1 else "rgb"
    unit = values.astype(np.float32) / np.float32(255)
    save_image(tmp_path / "a.png", unit)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", colour), unit)


@few
@given(
    wave=arrays.arrays(np.int16, st.tuples(st.integers(1, 50), st.sampled_from([1, 2]))),
    subtype=st.sampled_from(["PCM_16", "PCM_24", "PCM_32", "FLOAT"]),
)
@pytest.mark.filterwarnings("ignore")
def test_sounds_come_back(tmp_path: Path, wave: np.ndarray, subtype: str) -> None:
    given = Sound(wave.astype(np.float32) / 32768, 8000, subtype)
    write_sound(tmp_path / "a.wav", given)
    found = read_sound(tmp_path / "a.wav")
    np.testing.assert_array_equal(found.wave, given.wave)
    assert (found.rate, found.subtype) == (8000, subtype)


@few
@given(seed=SEEDS, ending=st.sampled_from(["obj", "ply", "off", "stl", "glb"]), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_meshes_come_back(tmp_path: Path, seed: int, ending: str, scale: float) -> None:
    generator = np.random.default_rng(seed)
    corners = scale * generator.normal(size=(4, 3)).astype(np.float32).astype(float)
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    write_mesh(tmp_path / f"a.{ending}", Mesh(corners, faces))
    found = read_mesh(tmp_path / f"a.{ending}")
    np.testing.assert_allclose(found.corners, corners[faces], rtol=1e-5, atol=1e-6 * scale)


names = st.text(string.ascii_letters + string.digits + ' ü/%\n\\"', min_size=1, max_size=12)
told = st.dictionaries(names, st.integers() | names, max_size=3)


@few
@given(
    seed=SEEDS,
    signals=st.integers(1, 5),
    k=st.integers(1, 6),
    facts=st.dictionaries(names, st.integers() | names, max_size=3),
)
def test_codes_come_back_and_damage_does_not(
    tmp_path: Path, seed: int, signals: int, k: int, facts: dict[str, Any]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(signals, 9, generator=generator).argsort(1)[:, :k]
    code = Code(torch.randn(signals, k, generator=generator), torch.randn(signals, 3, generator=generator), places)
    path = tmp_path / "codes.safetensors"
    save_codes(path, {"omp": code}, 9, facts)
    codes, told = load_codes(path)
    assert {name: told[name] for name in facts if name not in ("experts", "methods", "detail")} == facts
    (found,) = codes.values()
    for one, other in ((found.values, code.values), (found.bias, code.bias), (found.indices, code.indices)):
        assert one is not None and other is not None and torch.equal(one, other)
    _, bad = damaged(path.read_bytes(), np.random.default_rng(seed), [b""])
    path.write_bytes(bad)
    try:
        again = load_codes(path)
    except UserError:
        return
    assert again[1] == told and torch.equal(again[0]["omp"].values, code.values)


@few
@given(seed=SEEDS, signals=st.integers(1, 4), experts=st.integers(1, 8), channels=st.integers(1, 3))
def test_compact_codes_come_back_and_damage_does_not(
    tmp_path: Path, seed: int, signals: int, experts: int, channels: int
) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(-40, 40, (signals, experts)) * (generator.random((signals, experts)) < 0.5)
    symbols = Symbols(values, generator.integers(-9, 9, (signals, channels)))
    path = tmp_path / "a.nidc"
    save_compact(path, symbols, 0.25, 0.5, {"methods": ["omp"]})
    found, facts = load_compact(path)
    np.testing.assert_array_equal(found.values, symbols.values)
    np.testing.assert_array_equal(found.biases, symbols.biases)
    _, bad = damaged(path.read_bytes(), generator, [b""])
    path.write_bytes(bad)
    try:
        again = load_compact(path)
    except UserError:
        return
    assert again[1] == facts
    np.testing.assert_array_equal(again[0].values, symbols.values)


leaves = st.none() | st.booleans() | st.integers(-3, 10**6) | st.floats() | names
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
KEYS = ("steps", "batch", "experts", "lr", "kind", "gate", "phases", "val", "path", "encoding", "run_dir")


@few
@given(
    section=st.sampled_from(sorted(Config.model_fields)),
    key=st.sampled_from(KEYS),
    value=trees,
)
@pytest.mark.filterwarnings("ignore")
def test_any_value_anywhere_is_taken_or_refused(tmp_path: Path, section: str, key: str, value: object) -> None:
    content = yaml.safe_dump({section: {key: value}}).encode()
    if outcome(load_config, tmp_path / "a.yaml", content) is None:
        config = load_config(tmp_path / "a.yaml")
        (tmp_path / "b.yaml").write_text(config.to_yaml())
        assert load_config(tmp_path / "b.yaml") == config
