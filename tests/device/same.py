"""Whether two folders hold the same results: what was computed on the device, and what was on the CPU."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.video.config import VideoSection
from nid_dist.tasks.video.frames import Video

EXACT = 1e-6
# What is not a result: when, how long, on what, and where to.
_APART = (
    "seconds",
    "second",
    "elapsed",
    "time",
    "memory",
    "once",
    "machine",
    "command",
    "rate",
    "ms",
    "trace",
    "run_dir",
    "sha256",
)


def assert_same_folders(one: Path, other: Path, tolerance: float = EXACT) -> None:
    """The same files with the same figures, arrays, codes and pictures."""
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file()) and names
    for name in names:
        # A plot against seconds is another every time.
        read = None if Path(name).name.startswith("seconds") else _READERS.get(Path(name).suffix)
        if read is None or not (one / name).stat().st_size:
            continue
        if name.endswith(".png"):
            here, there = read(one / name), read(other / name)
            assert here.shape == there.shape, name
            # A grey level of rounding; and where a mesh has a sliver of a face, rounding decides how that is lit.
            assert (abs(here - there) > 1.01 / 255).mean() < 1e-4, name
        else:
            assert_same(read(one / name), read(other / name), name, tolerance)


def assert_same(one: Any, other: Any, where: str, tolerance: float = EXACT) -> None:
    """Two values of plain containers, numbers and arrays."""
    if isinstance(one, dict):
        kept = [key for key in one if not any(key.startswith(word) or key.endswith(word) for word in _APART)]
        assert one.keys() == other.keys(), where
        for key in kept:
            assert_same(one[key], other[key], f"{where}: {key}", tolerance)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for place, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}: {place}", tolerance)
    elif isinstance(one, np.ndarray | float):
        assert np.shape(one) == np.shape(other), where
        np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance, err_msg=where)
    else:
        assert one == other, where


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a training's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def _read_video(path: Path) -> np.ndarray:
    video = Video(VideoSection.model_validate({"source": "video", "path": str(path)}))
    return video.read(list(range(len(video))))


_READERS = {
    ".json": lambda path: json.loads(path.read_text()),
    ".npy": np.load,
    ".npz": lambda path: dict(np.load(path)),
    ".safetensors": load_file,
    ".png": lambda path: np.asarray(Image.open(path), dtype=np.float64) / 255,
    ".ply": lambda path: [read_mesh(path).vertices, read_mesh(path).faces],
    ".mkv": _read_video,
}
