"""A process knows the launchers above it, and that one of them has ended."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from nid_dist.parallel.launch import orphans
from nid_dist.parallel.launch.membership import began
from nid_dist.parallel.launch.orphans import Launchers

CHILD = "import time; from nid_dist.parallel.launch.orphans import launchers; print(launchers()._found); time.sleep(60)"
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_of_a_shell_there_is_none() -> None:
    out = subprocess.run([sys.executable, "-c", CHILD.partition("; time")[0]], capture_output=True, text=True)
    assert out.stdout.strip() == "[]", out.stderr


@pytest.mark.parametrize("name", ["torchrun", "mpirun"])
def test_of_a_launcher(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(PARENT)
    words = [sys.executable, str(tmp_path / name), CHILD.partition("; time.")[0]]
    launcher = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    with launcher.stdout as stream:
        found = stream.read().strip()
    launcher.wait()
    assert found.startswith(f"[({launcher.pid}, ")


def test_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "_EVERY", 0.0)
    process = subprocess.Popen(["sleep", "60"])
    begin = began(process.pid)
    assert begin is not None
    above = Launchers([(process.pid, begin)])
    assert not above.ended() and Launchers([(process.pid, begin - 1)]).ended()  # another process of its number
    process.kill()
    process.wait()
    assert above.ended() and not Launchers([]).ended()


def test_looks_are_few() -> None:
    above = Launchers([(2**22 + 1, 0)])
    assert not above.ended()
    time.sleep(orphans._EVERY)
    assert above.ended()
