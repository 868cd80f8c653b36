"""The README's Python runs as it stands there, and every public function takes a path as a text or a `Path`."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import nid_dist
from nid_dist.comparison.factory import load_comparison
from nid_dist.data.reading import image_size
from nid_dist.export import export
from nid_dist.files import save_array, write_json
from nid_dist.tasks.audio.reading import read_sound
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.shapes.point_clouds import read_cloud
from nid_dist.tasks.video.decoding import decode
from tests.tiny import picture, tiny, write_pictures, write_sizes

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
SMALLER = {"height=2048, width=3072": "height=40, width=60"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the README speaks of, tiny: a run, photographs, a new one, a mask, configurations."""
    home = tmp_path_factory.mktemp("readme")
    photos = write_pictures(home / "PHOTOS")
    given = ["training.steps=2", "coding.phases=[{mode: solve}]"]
    nid_dist.train(tiny(photos, home / "runs" / "photos", *given))
    Image.fromarray(picture(9)).save(home / "new.jpg")
    mask = np.full((24, 32), 255, np.uint8)
    mask[8:14, 9:15] = 0
    Image.fromarray(mask).save(home / "mask.png")
    (home / "configs").mkdir()
    write_sizes(home / "configs").rename(home / "configs" / "images.yaml")
    text = (home / "configs" / "images.yaml").read_text().replace("steps: 10", "steps: 2")
    (home / "configs" / "images.yaml").write_text(text)
    return home


def test_there_is_python_in_the_readme() -> None:
    assert any("nid_dist.load(" in block and "nid_dist.train(" in block for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    for large, small in SMALLER.items():
        block = block.replace(large, small)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert (home / "out" / "codes.safetensors").is_file() and "trainer" in names


def given(folder: Path) -> dict[str, Path]:
    """A file of each kind that is read."""
    Image.fromarray(picture(1)).save(folder / "a.png")
    save_array(str(folder / "s.npy"), np.zeros((6, 21)))
    save_array(folder / "c.npy", np.random.default_rng(0).random((60, 3)))
    (folder / "g.yaml").write_text("{unit: degrees, views: 6, bins: 21}")
    (folder / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 4 2\nf 1 3 4\nf 2 4 3\n")
    soundfile.write(folder / "a.wav", np.zeros(99), 8000)
    (folder / "frames").mkdir()
    Image.fromarray(picture(1)).save(folder / "frames" / "1.png")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("kind", [str, Path, "~"])
def test_paths_as_texts_and_from_home(
    kind: Callable[[Path], str | Path] | str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, run = given(tmp_path), home / "runs" / "photos"
    monkeypatch.setenv("HOME", str(tmp_path.parent))

    def named(path: Path) -> str | Path:
        return kind(path) if callable(kind) else f"~/{os.path.relpath(path, tmp_path.parent)}"

    model = nid_dist.load(named(run), device="cpu")
    assert nid_dist.read_image(named(files["a.png"]), "rgb").shape == (24, 32, 3)
    assert image_size(named(files["a.png"])) == (24, 32)
    assert nid_dist.read_scans(named(files["s.npy"]), named(files["g.yaml"])).keys() == {"s.npy"}
    assert len(read_cloud(named(files["c.npy"]), False).points) == 60
    assert len(read_mesh(named(files["a.obj"])).faces) == 4 and len(read_sound(named(files["a.wav"])).wave) == 99
    assert len(list(decode(named(files["frames"]), "rgb"))) == 1
    fit = model.fit(named(files["a.png"]), "omp")
    assert fit.save(named(tmp_path / "out")) == tmp_path / "out"
    (tmp_path / "more").mkdir()
    fit.write(named(tmp_path / "more"))
    fit.code.save(named(tmp_path / "code.safetensors"))
    for name in ("code.safetensors", "out/codes.safetensors", "more/codes.safetensors"):
        assert nid_dist.load_codes(named(tmp_path / name))[0]
    assert export(model, named(tmp_path / "exported")) == tmp_path / "exported"
    write_json(named(tmp_path / "a.json"), {})
    config = nid_dist.Config.from_yaml(named(tmp_path / "exported" / "config.yaml"))
    assert config == model.config and nid_dist.load(named(tmp_path / "exported"), "cpu").support == 4
    (tmp_path / "compare.yaml").write_text("{task: images, run_dir: ~/x, dictionaries: [{name: a, config: images}]}")
    assert load_comparison(named(tmp_path / "compare.yaml")).run_dir == f"{tmp_path.parent}/x"
