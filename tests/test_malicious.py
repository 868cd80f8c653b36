"""Files that a stranger sends: no reader executes what is in them, or opens others for them."""

import hashlib
import io
import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from nid_dist.baselines.cache import found_again
from nid_dist.baselines.config import load_baseline
from nid_dist.checkpoints.checkpoint import save
from nid_dist.checkpoints.integrity import FACTS, read_document
from nid_dist.code import load_codes
from nid_dist.comparison.dictionaries import folder_of
from nid_dist.comparison.factory import load_comparison
from nid_dist.config import load_config
from nid_dist.data.reading import image_size, read_image
from nid_dist.errors import UserError
from nid_dist.evaluation.lpips import Lpips
from nid_dist.export import load
from nid_dist.files import load_array, require_inside, write_json
from nid_dist.planning.card import read_card
from nid_dist.tasks.audio.reading import read_sound, sound_length
from nid_dist.tasks.comparison import Trained
from nid_dist.tasks.ct.sinograms import read_scan, read_scans
from nid_dist.tasks.images.celeba import list_celeba
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.shapes.point_clouds import read_cloud
from nid_dist.tasks.shapes.prepared import INDEX, PreparedShapes, read_facts, write_index
from nid_dist.tasks.shapes.shapenet import read_splits
from nid_dist.tasks.video.decoding import decode

STORED = Path(__file__).parent / "fixtures" / "version_0_1" / "runs"
PACKAGE = Path(__file__).parents[1] / "nid_dist"


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.trace,))


def archive(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(name, content)
    return file.getvalue()


def saved(write: Callable[..., object], value: object, **options: object) -> bytes:
    file = io.BytesIO()
    write(file, value, **options)
    return file.getvalue()


def wrappings(trace: Path) -> dict[str, bytes]:
    """The ways in which pickles travel."""
    evil = Evil(trace)
    plain = pickle.dumps(evil)
    objects = np.empty(2, object)
    objects[:] = evil
    array = saved(np.save, objects, allow_pickle=True)
    return {
        "a pickle": plain,
        "a pickle of version 0": pickle.dumps(evil, 0),
        "an array of objects": array,
        "an archive of arrays": archive("arr_0.npy", array),
        "torch's": saved(lambda file, value: torch.save(value, file), evil),
        "torch's old": saved(lambda file, value: torch.save(value, file, _use_new_zipfile_serialization=False), evil),
        "behind DICOM's preamble": bytes(128) + b"DICM" + plain,
        "YAML": f"signals: !!python/object/apply:os.system ['touch {trace}']".encode(),
        "YAML's new": f"!!python/object/new:os.system ['touch {trace}']".encode(),
    }


def frames(path: Path) -> None:
    list(decode(path, "rgb"))


ENDINGS = (".npy", ".npz", ".pt", ".pth", ".pkl", ".safetensors", ".dcm", ".json", ".yaml", ".nidc", ".png", ".tif")
READERS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "image": (lambda path: read_image(path, "rgb"), ENDINGS),
    "size": (image_size, (".npy", ".png", ".dcm")),
    "cloud": (lambda path: read_cloud(path, False), (".npy", ".npz", ".ply", ".xyz", ".csv")),
    "mesh": (read_mesh, (".obj", ".ply", ".off", ".stl", ".glb")),
    "sound": (read_sound, (".wav", ".flac", ".npy")),
    "length": (sound_length, (".wav",)),
    "video": (frames, (".avi", ".mp4", ".pkl")),
    "sinogram": (lambda path: read_scan(path, scan_beside(path)), (".npy", ".npz", ".pkl")),
    "sinograms": (lambda path: read_scans(path, scan_beside(path)), (".npy",)),
    "geometry": (lambda path: read_scan(np.zeros((6, 21)), path), (".yaml",)),
    "array": (load_array, (".npy",)),
    "codes": (load_codes, ENDINGS),
    "configuration": (load_config, (".yaml", ".pkl")),
    "comparison": (load_comparison, (".yaml",)),
    "baseline": (load_baseline, (".yaml",)),
    "weights": (lambda path: found_again(path, {}, "start"), (".safetensors", ".pt")),
    "LPIPS": (lambda path: Lpips(path), (".ckpt", ".pt")),
    "card": (lambda path: read_card(path, "fp32"), (".json",)),
    "splits": (read_splits, (".json",)),
    "model": (load, (".pt", ".safetensors", ".pkl")),
}


def scan_beside(path: Path) -> Path:
    there = path.with_name("geometry.yaml")
    there.write_text("{unit: degrees, views: 6, bins: 21}")
    return there


@pytest.mark.parametrize("reader", READERS)
def test_nothing_is_executed(reader: str, tmp_path: Path) -> None:
    read, endings = READERS[reader]
    trace = tmp_path / "executed"
    for wrapping, content in wrappings(trace).items():
        for ending in endings:
            path = tmp_path / f"a{ending}"
            path.write_bytes(content)
            with pytest.raises((UserError, ValueError)) as caught:  # `array` is not for users
                read(path)
            assert "\n" not in str(caught.value) or reader == "array", (wrapping, ending)
            assert not trace.exists(), (wrapping, ending)


def test_the_pickles_would_do_it(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    for name, content in wrappings(trace).items():
        if name.startswith("a pickle"):
            pickle.loads(content)
        elif name == "an array of objects":
            np.load(io.BytesIO(content), allow_pickle=True)
        elif name.startswith("torch"):
            torch.load(io.BytesIO(content), weights_only=False)
        else:
            continue
        assert trace.exists(), name
        trace.unlink()


def test_nothing_in_folders_is_executed(tmp_path: Path) -> None:
    """Runs, checkpoints, exports, prepared shapes, CelebA: each of their files in turn is a pickle."""
    run = tmp_path / "run"
    shutil.copytree(STORED / "images", run)
    (run / "events").mkdir(exist_ok=True)
    (run / "events" / "events.out.tfevents.1").touch()
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    for name in (".metadata", "model.safetensors.index.json", "state.pt"):  # what others read in such folders
        (checkpoint / name).touch()
    trace = tmp_path / "executed"
    ways = wrappings(trace)
    for content in (ways["a pickle"], ways["torch's"], ways["YAML"]):
        for path in [path for path in run.rglob("*") if path.is_file()]:
            before = path.read_bytes()
            path.write_bytes(content)
            with suppress(UserError):
                load(run)
            assert not trace.exists(), path
            path.write_bytes(before)
    assert load(run).support
    write_index(tmp_path / "prepared", {}, {"a": {}}, {})
    (tmp_path / "celeba").mkdir()
    for content in wrappings(trace).values():
        (tmp_path / "prepared" / "a.safetensors").write_bytes(content)
        assert PreparedShapes(tmp_path / "prepared").names == ["a"] and read_facts(tmp_path / "prepared", "a") is None
        (tmp_path / "celeba" / "list_eval_partition.txt").write_bytes(content)
        with pytest.raises(UserError):
            list_celeba(tmp_path / "celeba")
        (tmp_path / "index").mkdir(exist_ok=True)
        (tmp_path / "index" / INDEX).write_bytes(content)
        with pytest.raises(UserError):
            PreparedShapes(tmp_path / "index")
    assert not trace.exists()


def test_who_may_unpickle_and_who_may_start_programs() -> None:
    """Only the reader of LPIPS' weights knows pickle; nobody has a shell."""
    texts = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}

    def using(pattern: str) -> set[str]:
        return {name for name, text in texts.items() if re.search(pattern, text, re.MULTILINE)}

    assert using(r"^\s*(import|from) (pickle|cloudpickle|dill|joblib|shelve|marshal)\b") == {"evaluation/lpips.py"}
    assert not using(r"torch\.load\(|np\.load\([^)]*allow_pickle=True|yaml\.\w*load\(")
    assert not using(r"os\.(system|popen|exec\w*|spawn\w*)\(|shell=True|getoutput|\bpty\.|(?<![.\w])(eval|exec)\(")
    programs = using(r"\b(subprocess|Popen)\b")
    assert {name for name in programs if not name.startswith("benchmarks/")} == {"cli/quickstart.py"}


NAMES = ["../a", "/etc/passwd", "a/../../b", "..", "", "a\0b", 7, None]


@pytest.mark.parametrize("name", NAMES)
def test_names_do_not_lead_out_of_their_folder(name: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names of files in its own folder"):
        require_inside(tmp_path, [name])
    require_inside(tmp_path, ["a", "a/b.c", "..a", "a..b/c"])


def test_an_index_and_a_checkpoint_that_climb(tmp_path: Path) -> None:
    write_index(tmp_path / "prepared", {}, {"../outside": {}}, {})
    (tmp_path / "outside.safetensors").touch()
    with pytest.raises(UserError, match="the name '../outside'"):
        PreparedShapes(tmp_path / "prepared")
    path = save(tmp_path / "checkpoints", 1, {"x": torch.zeros(1)}, {}, keep=1)
    document = json.loads((path / FACTS).read_text())
    del document["sha256"]
    document["files"]["../../outside.safetensors"] = {"bytes": 0, "sha256": ""}
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    (path / FACTS).write_text(json.dumps({**document, "sha256": digest}))
    with pytest.raises(UserError, match="the name '../../outside.safetensors'"):
        read_document(path)
    for name in ("..", ".", "../../x", "/x", "..hidden"):
        assert folder_of(Trained(name=name, config="images"), str(tmp_path)).parent == tmp_path


def test_a_link_in_the_place_of_a_result_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("as it was")
    (tmp_path / "a.json").symlink_to("precious")
    write_json(tmp_path / "a.json", {})
    assert (tmp_path / "precious").read_text() == "as it was" and not (tmp_path / "a.json").is_symlink()


def film(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for level in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 80 * level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "ffconcat version 1.0\nfile http://127.0.0.1:9/a.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_video_is_no_list_of_other_files(text: str, tmp_path: Path) -> None:
    film(tmp_path / "secret.mp4")
    assert len(list(decode(tmp_path / "secret.mp4", "rgb"))) == 3
    (tmp_path / "a.avi").write_text(text)
    with pytest.raises(UserError, match="a file that is no video"):
        frames(tmp_path / "a.avi")


@pytest.mark.parametrize("reader", ["card", "splits", "codes", "configuration"])
def test_json_that_is_too_deep(reader: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" * 100_000)
    with pytest.raises(UserError):
        READERS[reader][0](path)
