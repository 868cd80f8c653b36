"""`nid-train` as a person uses it: what it says, how it stops, and how it goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from nid_dist.cli.train import main
from tests.tiny import write_pictures, write_sizes

LAUNCH = Path(__file__).parents[2] / "launch" / "train.py"
# Neither the schedule nor the phase depends on how many steps there will be.
ENDLESS = ["training.steps=100000", "coding.phases=[{mode: solve}]", "optimizer.schedule=constant"]


def arguments(images: Path, run: Path, *overrides: str) -> list[str]:
    own = [f"signals.path={images}", f"logging.run_dir={run}", *overrides]
    return ["--config", str(write_sizes(images, ".tiny.yaml")), "--single-process", "--set", *own]


def parameters(run: Path, step: int) -> dict[str, torch.Tensor]:
    (shard,) = (run / "checkpoints" / f"step-{step:08d}").glob("*.safetensors")
    return load_file(shard)


def start(images: Path, run: Path, *overrides: str, steps: int = 3) -> subprocess.Popen[str]:
    """A real process that has trained some steps."""
    command = [sys.executable, str(LAUNCH), *arguments(images, run, *ENDLESS, *overrides)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log, patience = run / "log.jsonl", time.monotonic() + 60
    while not (log.exists() and log.read_text().count('"train"') >= steps):
        assert process.poll() is None and time.monotonic() < patience, process.communicate()
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda each: each.name)
def test_a_stopped_training_goes_on_bit_for_bit(
    images: Path, tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    process = start(images, run)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    words = out.split()
    assert out.startswith(f"stopped by {number.name} at step ") and "checkpoint written" in out
    assert f"next: nid-train --config {images / '.tiny.yaml'} --single-process --set " in out and "--resume auto" in out
    assert f"{number.name}: finishing this step" in err and "Traceback" not in err
    stopped = int(words[words.index("step") + 1].rstrip(","))
    more = stopped + 1
    assert main([*arguments(images, run, *ENDLESS, f"training.steps={more}"), "--resume", "auto"]) == 0
    captured = capsys.readouterr()
    assert f"resumed {run}/checkpoints/step-{stopped:08d} at step {stopped}" in captured.err
    assert captured.out.startswith(f"trained {more} steps: val/db_")
    if number == signal.SIGINT:
        return  # the same code from here on
    straight = tmp_path / "straight"
    assert main(arguments(images, straight, *ENDLESS, f"training.steps={more}")) == 0
    one, other = parameters(run, more), parameters(straight, more)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_killed_training_loses_only_the_steps_since_its_checkpoint(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(images, run, "training.checkpoint_every=4", "training.keep=1000", steps=10)
    process.kill()
    process.communicate()
    reached = json.loads((run / "log.jsonl").read_text().splitlines()[-1])["step"]
    (run / "log.jsonl").open("a").write('{"half a li')
    kept = sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))
    assert kept[-1] >= reached - 4
    more = kept[-1] + 1
    assert main([*arguments(images, run, *ENDLESS, f"training.steps={more}"), "--resume", "auto"]) == 0
    lines = (run / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == more and '{"half a li' in lines
    assert not [path for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]


def test_what_a_person_sees(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    given = arguments(images, run, "training.steps=3", "logging.progress=true")
    assert main(given) == 0
    captured = capsys.readouterr()
    trained, wrote, following = captured.out.splitlines()
    assert trained.startswith("trained 3 steps: val/db_init ") and "val/db_omp2" in trained
    assert wrote.startswith(f"wrote {run}: checkpoints/")
    assert following == f"next: nid-fit --dictionary {run} --input YOUR_IMAGES --out {run}/fit"
    device, first, last = captured.err.splitlines()
    assert device == "device: cpu (asked for)"
    assert first.startswith("32 experts in total") and f"105 training signals; writing to {run}" in first
    assert last.startswith("step 3/3") and "loss" in last
    assert main([*given, "--resume", "auto"]) == 0
    nothing, _, further = capsys.readouterr().out.splitlines()
    assert nothing == f"nothing left to do: {run} has finished at step 3"
    assert "--resume auto --set training.steps=6" in further


def test_the_option_overrides_the_configuration(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(images, tmp_path / "run", "parallel.device=cuda:7", "training.steps=1")
    assert main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nid-train: error: device: found cuda:7 ")
    assert main([*given, "--device", "cpu"]) == 0
    assert main([*given, "--device", "cpu", "--resume", "auto"]) == 0
    assert "parallel.device=cpu --resume auto" in capsys.readouterr().out


def test_going_back_is_said(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    given = arguments(images, run, "training.steps=4", "training.checkpoint_every=2")
    assert main(given) == 0
    assert main([*given, "--resume", str(run / "checkpoints" / "step-00000002")]) == 0
    assert f"moved to {run}/abandoned: step-00000004" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_one_warning(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    given = arguments(images, run, "training.steps=4", "training.checkpoint_every=2")
    assert main(given) == 0
    (run / "checkpoints" / "step-00000004" / "facts.json").write_text("{")
    assert main([*given, "--resume", "auto"]) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "warning" in line)
    assert line.startswith("nid-train: warning: ") and "step-00000004" in line and "passed over" in line


BAD = {
    "no such configuration": (["--config", "nowhere.yaml"], "nowhere.yaml: found no such file"),
    "unknown key": (["dictionary.expert=3"], "dictionary.expert"),
    "unknown section": (["dictionry.experts=3"], "dictionary"),
    "k > n": (["coding.support=33"], "coding.support 33 is larger than dictionary.experts 32"),
    "n not divisible": (["parallel.expert_parallel_size=5"], "not divisible"),
    "more ranks than processes": (["parallel.expert_parallel_size=2"], "expert_parallel_size"),
    "batch not divisible": (["optimizer.accumulation=3"], "not divisible"),
    "no such folder": (["signals.path=/nowhere/at/all"], "signals.path /nowhere/at/all: found no such folder"),
    "patch too large": (["signals.patch=25"], "24x32 pixels"),
    "crop too large": (["signals.crop=100"], "signals.crop 100"),
    "no image left": (["signals.val=['*.png']", "signals.test=0.0"], "train"),
    "glob without match": (["signals.test=['z*']"], "z*"),
    "augmented codebook": (["coding.gate.kind=codebook", "signals.augment=true"], "signals.augment"),
    "resume from nowhere": (["--resume", "/nowhere"], "--resume /nowhere: found no such folder"),
    "resume from no run": (["--resume", "."], "--resume .: found no checkpoint"),
    "negative steps": (["training.steps=-1"], "training.steps"),
    "not a number": (["optimizer.lr=fast"], "optimizer.lr"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_makes_nothing(
    images: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given, message = BAD[case]
    assert main([*arguments(images, tmp_path / "run"), *given]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("nid-train: error: ") and message in captured.err
    assert list(tmp_path.iterdir()) == []


def spoil(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no picture")
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "nan":
        path.unlink()
        np.save(path.with_suffix(".npy"), np.full((24, 32, 3), np.nan))
    elif kind == "pickle":
        path.unlink()
        np.save(path.with_suffix(".npy"), np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif kind == "one pixel":
        Image.new("RGB", (1, 1)).save(path)
    elif kind == "unreadable":
        path.unlink()
        path.mkdir()
        (path.parent / "b.png").rmdir()
        os.symlink("/nowhere/b.png", path)


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "nan", "pickle", "one pixel", "unreadable"])
def test_a_bad_image_is_named_before_anything_is_made(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_pictures(tmp_path / "images")
    spoil(images / "b.png", kind)
    assert main(arguments(images, tmp_path / "run")) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "b.n" in captured.err.replace("b.png", "b.n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "L", "I;16", "1", "LA"])
def test_images_of_other_kinds_are_trained_on(tmp_path: Path, mode: str) -> None:
    images = write_pictures(tmp_path / "images")
    picture = Image.open(images / "b.png").convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    (images / "b.png").unlink()
    picture.save(images / ("b.tif" if mode == "CMYK" else "b.png"))
    assert main(arguments(images, tmp_path / "run", "training.steps=1")) == 0


@pytest.mark.parametrize("content", ["run", "other things", "file"])
def test_a_folder_in_use_is_left_alone(
    images: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    given = arguments(images, run, "training.steps=1")
    if content == "run":
        assert main(given) == 0
    elif content == "other things":
        run.mkdir()
        (run / "thesis.tex").write_text("years of work")
    else:
        run.write_text("x")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(given) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and str(run) in captured.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert content != "run" or "--resume auto" in captured.err
