"""Trainings and commands on a device that is not the CPU, in a process of their own: it is registered once in each."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUITES = sorted(path.stem for path in HERE.glob("suite_*.py"))
_PATIENCE = 1800.0  # seconds


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """For each suite its tests, with what they say when they fail."""
    report = tmp_path_factory.mktemp("report") / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--show-capture=no", "-o", "python_files=suite_*.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ended = subprocess.run(
        [*command, f"--junitxml={report}", str(HERE)],
        env=environment,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
    )
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for case in ElementTree.parse(report).iter("testcase"):
        suite = str(case.get("classname")).rpartition(".")[2]
        found[suite][str(case.get("name"))] = "\n".join(part.text or "" for part in case)
    return found


@pytest.mark.parametrize("suite", SUITES)
def test_on_the_simulated_device(failures: dict[str, dict[str, str]], suite: str) -> None:
    failed = {name: text for name, text in failures[suite].items() if text}
    assert failures[suite] and not failed, "\n\n".join(f"{name}:\n{text}" for name, text in failed.items())
