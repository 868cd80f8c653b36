"""`nid-prepare`: one broken mesh among many, --strict, resuming, two at once, full disks."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nid_dist.cli.prepare import main
from nid_dist.tasks.shapes.mesh import SIDE, Mesh
from nid_dist.tasks.shapes.mesh_writing import write_mesh
from nid_dist.tasks.shapes.prepared import INDEX, PreparedShapes

FEW = ["--samples", "400", "--surface", "60", "--grid", "4", "--cores", "1"]


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    folder = tmp_path / "meshes"
    assert main(["furniture", "--out", str(folder), "--count", "3", "--families", "chair"]) == 0
    return folder


def prepare(meshes: Path, out: Path, *more: str) -> int:
    return main(["shapes", "--input", str(meshes), "--layout", "shapenet-v2", "--out", str(out), *FEW, *more])


def test_furniture_to_samples(meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert prepare(meshes, out, "--splits", str(meshes / "splits.json"), "--synset", "chair") == 0
    said = capsys.readouterr().out
    assert "prepared 3 shapes" in said and "next: nid-train" in said
    index = json.loads((out / INDEX).read_text())
    assert len(index["shapes"]) == 3 and index["refused"] == {} and index["settings"]["samples"] == 400
    facts = index["shapes"]["03001627/chair-00002"]
    assert facts["split"] == "train" and len(facts["sha256"]) == 64 and facts["faces"] > 100
    assert len(PreparedShapes(out).names) == 3
    before = (out / "03001627" / "chair-00002.safetensors").stat().st_mtime_ns
    assert prepare(meshes, out, "--splits", str(meshes / "splits.json")) == 0
    assert "prepared 0 shapes; 3 were there" in capsys.readouterr().out
    assert (out / "03001627" / "chair-00002.safetensors").stat().st_mtime_ns == before
    assert prepare(meshes, out, "--samples", "500") == 2
    assert "shapes prepared with --samples 400" in capsys.readouterr().err


def break_one(meshes: Path) -> str:
    path = meshes / "03001627" / "chair-00001" / "models" / "model_normalized.obj"
    path.write_text("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    return "03001627/chair-00001"


def test_one_broken_mesh_among_many(meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = break_one(meshes)
    assert prepare(meshes, tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "prepared 2 shapes" in said.out and "1 left out" in said.out
    assert said.err.count("left out") == 1 and "not numbers" in said.err
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert list(index["refused"]) == [name] and name not in index["shapes"]
    # Mended and prepared again, it comes in.
    shutil.copy(
        meshes / "03001627" / "chair-00002" / "models" / "model_normalized.obj",
        meshes / "03001627" / "chair-00001" / "models" / "model_normalized.obj",
    )
    assert prepare(meshes, tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / INDEX).read_text())["refused"] == {}


def cube(side: float, shift: float, inward: bool = False, without: int = 0) -> Mesh:
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * float(side) + shift
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([corner for a, b, c, d in quads for corner in ((a, b, c), (a, c, d))])[without:]
    return Mesh(corners, faces[:, ::-1] if inward else faces)


def test_what_meshes_are_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    made = {
        "right.ply": cube(1, 0),
        "inside-out.ply": cube(2, 5, inward=True),
        "open.stl": cube(1, 0, without=1),
        "overlapping.obj": Mesh.joined([cube(1, 0), cube(1, 0.5)]),
    }
    for name, mesh in made.items():
        write_mesh(tmp_path / "in" / name, mesh)
    dots = Mesh.joined([cube(0.1, each / 10) for each in range(0, 10, 2)] + [cube(0.1, 1)] * 5)
    far = (dots.vertices + 3e5).astype(np.float32).astype(np.float64)  # in steps of 1 / 32
    write_mesh(tmp_path / "in" / "far.obj", Mesh(far, dots.faces))
    assert main(["shapes", "--input", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *FEW]) == 0
    said = capsys.readouterr()
    assert "of these, 1 not closed" in said.out and "1 with parts through or within each other" in said.out
    assert "1 inside out, and turned" in said.out and "longest sides 1 to 2" in said.out
    assert said.err.count("\n") == 1 and "warning: far: found coordinates far from the origin" in said.err
    prepared = PreparedShapes(tmp_path / "out")
    turned = prepared.names.index("inside-out")
    np.testing.assert_allclose(prepared.distance(turned, np.zeros((1, 3))), [-SIDE], atol=0.3)
    corners = prepared.mesh(turned).corners
    assert np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) > 0
    assert prepared.facts["right"]["closed"]


def test_strict_stops_and_keeps_what_is_done(meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_one(meshes)
    assert prepare(meshes, tmp_path / "out", "--strict") == 2
    assert "a mesh that cannot be trusted" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "out" / INDEX).read_text())["shapes"]) == ["03001627/chair-00000"]


def test_nothing_to_be_trusted(meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in meshes.rglob("*.obj"):
        path.write_text("v 0 0 0\n")
    assert prepare(meshes, tmp_path / "out") == 2
    assert "none of which can be trusted" in capsys.readouterr().err


def test_two_at_once_and_foreign_folders(meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert prepare(meshes, out) == 2
    assert "another preparation" in capsys.readouterr().err
    (out / "photo.jpg").touch()
    assert prepare(meshes, out) == 2
    assert "a folder with other files" in capsys.readouterr().err


def test_a_full_disk(
    meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, count = os.replace, [0]

    def full(source: Path, target: Path) -> None:
        count[0] += str(target).endswith(".safetensors")
        if count[0] == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert prepare(meshes, tmp_path / "out") == 2
    assert "No space left on device" in capsys.readouterr().err
    files = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert "chair-00000.safetensors" in files and not any(".tmp" in name for name in files)
    monkeypatch.undo()
    assert prepare(meshes, tmp_path / "out") == 0
    assert "prepared 2 shapes" in (said := capsys.readouterr().out) and "1 were there" in said


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["--samples", "3"], "--samples: found 3"),
        (["--near", "2"], "--near: found 2.0"),
        (["--synset", "horse"], "--synset horse"),
        (["--cores", "0"], "--cores: found 0"),
    ],
)
def test_bad_options(
    meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], found: str
) -> None:
    assert prepare(meshes, tmp_path / "out", *given) == 2
    assert found in capsys.readouterr().err and not (tmp_path / "out" / INDEX).exists()


def test_control_c_ends_all_processes_at_once(meshes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "nid_dist.cli.prepare", "shapes", "--input", str(meshes), "--out", str(out)]
    command += ["--samples", "3000000", "--cores", "2"]  # more than will be done
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also where these tests run in the background
    ) as process:
        deadline = time.monotonic() + 60
        while len(children(process.pid)) < 3 and time.monotonic() < deadline:  # one of which watches for the others
            time.sleep(0.1)
        time.sleep(1)
        (out / ".chair.safetensors.1.tmp").touch()  # as a worker leaves it that is killed while it writes
        begin = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said, wrong = process.communicate(timeout=30)
        seconds = time.monotonic() - begin
    assert process.returncode == 130 and said == ""
    lines = [line for line in wrong.splitlines() if not line.startswith("preparing") and "skipped" not in line]
    assert lines == ["nid-prepare: interrupted"]
    assert seconds < 2 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert not children(process.pid) and not list(out.rglob("*.tmp"))
    assert json.loads((out / INDEX).read_text())["shapes"] == {}


def children(session: int) -> list[int]:
    """The processes of a session that still run, but its first."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == session and words[0] != "Z" and int(path.parent.name) != session:
            found.append(int(path.parent.name))
    return found


def test_over_the_processes_of_mpirun(meshes: Path, tmp_path: Path) -> None:
    mpirun = Path(sys.executable).with_name("mpirun")
    if not mpirun.exists():
        pytest.skip("no mpirun beside this Python")
    command = [str(mpirun), "--allow-run-as-root", "--oversubscribe", "-n", "2"]
    command += [sys.executable, "-m", "nid_dist.cli.prepare", "shapes", "--input", str(meshes)]
    command += ["--layout", "shapenet-v2", "--out", str(tmp_path / "out"), *FEW]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("prepared 3 shapes") == 1
    assert len(PreparedShapes(tmp_path / "out").names) == 3
