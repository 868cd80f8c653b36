"""Ctrl-C ends a command in one line with exit code 130, whenever it comes."""

import configparser
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
COMMANDS = dict(line.split(" = ") for line in SETUP["options.entry_points"]["console_scripts"].strip().splitlines())
# As pip writes a console script; the signal comes when somebody asks for PyTorch.
SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where these tests run in the background
class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == {at!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv[:] = [{name!r}, *{arguments!r}]
{start}
"""


def run(script: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_while_it_imports(name: str) -> None:
    module, function = COMMANDS[name].split(":")
    start = f"from {module} import {function}\nsys.exit({function}())"
    script = SCRIPT.format(at="torch", name=f"/usr/bin/{name}", arguments=[], start=start)
    assert run(script) == (130, "", f"{name}: interrupted\n")


def test_of_a_script_of_the_clone_and_of_a_module() -> None:
    start = "import runpy\nrunpy.run_path('launch/train.py', run_name='__main__')"
    script = SCRIPT.format(at="torch", name="launch/train.py", arguments=[], start=start)
    assert run(script) == (130, "", "nid-train: interrupted\n")
    script = SCRIPT.format(at="torch", name="-m", arguments=[], start="import nid_dist.cli.reconstruct_ct")
    code, _, err = run(script)
    assert (code, err.count("\n")) == (130, 1) and err.endswith(": interrupted\n")


def test_as_a_library_it_listens_to_nothing() -> None:
    start = "import nid_dist.cli.plan"
    code, _, err = run(SCRIPT.format(at="torch", name="own.py", arguments=[], start=start))
    assert code != 130 and err.rstrip().endswith("KeyboardInterrupt")


def test_of_several_processes_the_first_one_speaks() -> None:
    for rank, said in ((0, "nid-train: interrupted\n"), (1, "")):
        start = f"os.environ['RANK'] = '{rank}'\nimport nid_dist.cli.train"
        assert run(SCRIPT.format(at="torch", name="nid-train", arguments=[], start=start)) == (130, "", said)


def test_while_it_runs_and_a_thread_goes_on() -> None:
    start = (
        "import threading, time\nfrom nid_dist.cli.entry import guarded\n"
        "def command(arguments=None):\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "sys.exit(guarded('nid-fit', command)())"
    )
    begin = time.monotonic()
    assert run(SCRIPT.format(at="", name="nid-fit", arguments=[], start=start)) == (130, "", "nid-fit: interrupted\n")
    assert time.monotonic() - begin < 50
