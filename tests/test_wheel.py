"""A wheel has all that the commands need: built, installed on its own, and used from an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import picture, write_pictures

ROOT = Path(__file__).parents[1]
SMALL = ["signals.patch=8", "signals.stride=8", "dictionary.experts=64", "dictionary.width=16", "coding.support=4"]
SMALL += ["dictionary.encoding.features=16", "coding.gate.width=4", "coding.prior_signals=8", "training.batch=8"]
SMALL += ["training.steps=2", "logging.tensorboard=false", "logging.progress=false", "logging.pictures_every=0"]

# Variables of this environment that would reach into the new one; pip's name files relative to this repository.
_OF_THIS = ("PYTHON", "VIRTUAL_ENV", "PIP_")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The programs of an environment with the wheel and, borrowed, what the wheel depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    # What earlier builds left in the working tree would be packed, too.
    shutil.copytree(ROOT / "nid_dist", folder / "source" / "nid_dist", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "source"], folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env")
    python = folder / "env" / "bin" / "python"
    run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], folder)
    # A .pth file in a folder that is named here is not read: an editable installation stays out of sight.
    borrowed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    yield python.parent
    shutil.rmtree(folder)


def run(command: list[object], cwd: Path) -> str:
    """What a command prints; it must succeed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(_OF_THIS)}
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=cwd, env=environment)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_commands(installed: Path, tmp_path: Path) -> None:
    place, images = tmp_path / "empty", write_pictures(tmp_path / "images", tuple(f"{name}.png" for name in range(6)))
    place.mkdir()
    mask = np.full(picture(0).shape[:2], 255, np.uint8)
    mask[4:9, 4:12] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    own = [*SMALL, f"signals.path={images}", "signals.val=[4.png]", "signals.test=[5.png]"]
    run(
        [installed / "nid-train", "--config", "images", "--single-process", "--set", *own, "logging.run_dir=run"], place
    )
    run([installed / "nid-fit", "--dictionary", "run", "--input", images / "5.png", "--out", "fit"], place)
    masked = ["--mask", tmp_path / "mask.png", "--seconds", "0.1"]
    given = ["--dictionary", "run", "--input", images / "5.png", "--out", "inpainted"]
    run([installed / "nid-inpaint", *given, *masked], place)
    dictionary = {"name": "NID", "config": "images", "set": own}
    options = ["sides=[16]", "set=[]", f"dictionaries=[{json.dumps(dictionary)}]", "seconds=0.1"]
    options += ["baselines=[baselines/siren.yaml]"]
    run([installed / "nid-compare", "--config", "compare_images", "--set", *options], place)
    run([installed / "nid-benchmark", "ct", "--quick", "--json", "ct.json"], place)
    code = "import nid_dist; print(nid_dist.__file__, nid_dist.load('run').channels)"
    file, channels = run([installed / "python", "-c", code], place).split()
    assert Path(file).is_relative_to(installed.parent) and channels == "3"
    assert {path.name for path in place.iterdir()} == {"run", "fit", "inpainted", "runs", "ct.json", "ct.md"}
    assert (place / "fit" / "table.md").is_file() and (place / "inpainted" / "inpainted.png").is_file()
    assert (place / "runs" / "compare_images" / "results-images" / "table.md").is_file()
