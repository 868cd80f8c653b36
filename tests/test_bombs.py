"""Files that grow: from a few bytes that promise, or unfold to, more than any machine holds."""

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from nid_dist.config import load_config
from nid_dist.data.reading import read_image
from nid_dist.errors import UserError
from nid_dist.tasks.ct.sinograms import read_scan

READ = """
import resource, sys
from pathlib import Path
from nid_dist.data.reading import read_image
from nid_dist.errors import UserError
from nid_dist.tasks.shapes.mesh_reading import EXTENSIONS, read_mesh
from nid_dist.tasks.shapes.point_clouds import read_cloud

resource.setrlimit(resource.RLIMIT_DATA, (3 << 29, 3 << 29))
for path in map(Path, sys.argv[1:]):
    try:
        if path.suffix in EXTENSIONS:
            read_mesh(path)
        elif path.suffix in (".npy", ".npz"):
            read_cloud(path, False)
        else:
            read_image(path, "grey")
        print("read")
    except UserError as error:
        print(error)
"""


def said_of(paths: list[Path]) -> list[str]:
    """What readers say in a process of their own, which has 1.5 GiB for all that it takes, and a minute."""
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def zeros(megabytes: int, bits: int = 15) -> bytes:
    """So many zeros as a stream of Deflate, without the checksum at its end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    first = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush nothing depends on what was before.
    again = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (megabytes - 1) + packer.flush()


def tiff(path: Path, data: bytes) -> None:
    """One strip of 8 x 8 numbers of 16 bits, in Deflate."""
    tags = [(256, 8), (257, 8), (258, 16), (259, 8), (262, 1), (273, 122), (277, 1), (278, 8), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data)


def png(path: Path, side: int, data: bytes, extra: bytes = b"") -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    text = chunk(b"zTXt", b"a\0\0" + extra) if extra else b""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + text + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def dicom(path: Path, beyond: int = 0) -> None:
    """A deflated file, behind whose dataset so many megabytes of zeros follow."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = (
        pydicom.uid.MRImageStorage,
        "1.2",
    )
    data.Rows = data.Columns = 8
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 0, 1
    data.PhotometricInterpretation, data.Modality = "MONOCHROME2", "MR"
    data.PixelData = np.arange(64, dtype=np.uint16).tobytes()
    data["PixelData"].VR = "OW"
    data.save_as(path, enforce_file_format=True)
    whole = path.read_bytes()
    start = 144 + struct.unpack("<I", whole[140:144])[0]
    if beyond:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = packer.compress(zlib.decompress(whole[start:], -15)) + packer.flush(zlib.Z_FULL_FLUSH)
        path.write_bytes(whole[:start] + body + zeros(beyond, -15))


def test_pictures_that_grow(tmp_path: Path) -> None:
    rows = zlib.compress(bytes(8 * 9))
    numbers = np.arange(64, dtype="<u2")
    tiff(tmp_path / "good.tif", zlib.compress(numbers.tobytes()))
    dicom(tmp_path / "good.dcm")
    for name in ("good.tif", "good.dcm"):
        values = read_image(tmp_path / name, "grey")[..., 0].reshape(-1)
        assert np.allclose(values / values[-1], numbers / 63, atol=1e-6)
    tiff(tmp_path / "bomb.tif", zeros(3000))
    dicom(tmp_path / "bomb.dcm", 3000)
    png(tmp_path / "text.png", 8, rows, zeros(3000))
    png(tmp_path / "side.png", 60000, zeros(10))
    paths = [tmp_path / name for name in ("bomb.tif", "bomb.dcm", "text.png", "side.png")]
    for line, path, word in zip(said_of(paths), paths, ("bomb", "bomb", "too large", "pixels"), strict=True):
        assert line.startswith(str(path)) and word in line, line


def test_arrays_and_meshes_that_lie(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    lying = (tmp_path / "a.npy").read_bytes().replace(b"(2, 3), }", b"(999999999, 3), }")
    (tmp_path / "a.npy").write_bytes(lying)
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\nproperty float x\nproperty float y\n"
    head += "property float z\nelement face 99999999999\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "a.ply").write_bytes(head.encode() + bytes(99))
    (tmp_path / "a.stl").write_bytes(bytes(80) + struct.pack("<I", 2**32 - 1) + bytes(50))
    (tmp_path / "a.off").write_text("OFF\n99999999999 99999999999 0\n0 0 0\n")
    document = {
        "asset": {"version": "2.0"},
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"componentType": 5126, "count": 10**9, "type": "VEC3"}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    glb = b"glTF" + struct.pack("<II", 2, 20 + len(text)) + struct.pack("<I", len(text)) + b"JSON" + text
    (tmp_path / "a.glb").write_bytes(glb)
    np.savez_compressed(tmp_path / "a.npz", points=np.zeros((99, 3)))
    packed = bytearray((tmp_path / "a.npz").read_bytes())
    packed[(at := packed.index(b"PK\1\2") + 24) : at + 4] = struct.pack("<I", 3 * 2**30)  # in the archive's directory
    (tmp_path / "a.npz").write_bytes(packed)
    paths = [tmp_path / f"a.{ending}" for ending in ("npy", "npz", "ply", "stl", "off", "glb")]
    said = said_of(paths)
    assert [line.split(":")[0] for line in said] == [str(path) for path in paths], said
    assert not any("MemoryError" in line for line in said), said


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n"
MERGES = "a: &a {x: 1}\n"
for before, after in zip("abcdefghi", "bcdefghij", strict=True):
    nine = ", ".join([f"*{before}"] * 9)
    LAUGHS += f"{after}: &{after} [{nine}]\n"
    MERGES += f"{after}: &{after} {{<<: [{nine}]}}\n"
EXPLODING = {
    "aliases": (LAUGHS, "repeat far too much"),
    "merges": (MERGES, "repeat far too much"),
    "itself": ("signals: &a [*a]", "contain themselves"),
    "itself as a section": ("signals: &a {b: *a}", "contain themselves"),
    "brackets": ("[" * 5000, "deep"),
    "dashes": ("- " * 5000 + "x", "recursion"),
    "length": ("a: " + "x" * 500_000, "characters"),
}


@pytest.mark.parametrize("name", EXPLODING)
def test_yaml_that_explodes(name: str, tmp_path: Path) -> None:
    text, word = EXPLODING[name]
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=word):
        load_config(tmp_path / "a.yaml")
    with pytest.raises(UserError, match=word):
        read_scan(np.zeros((6, 21)), tmp_path / "a.yaml")
    with pytest.raises(UserError, match=word):
        load_config(None, [f"signals={text}"])


def test_aliases_are_read_as_long_as_they_are_few(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("coding: {phases: [&one {mode: solve}, *one, {<<: *one, share: 2}]}")
    phases = load_config(tmp_path / "a.yaml").coding.phases
    assert [(phase.mode, phase.share) for phase in phases] == [("solve", 1), ("solve", 1), ("solve", 2)]
