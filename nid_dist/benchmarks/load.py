"""`load`: a training of two processes for an hour, with checkpoints, evaluations and pictures: what they come to hold.

A day in small: what is done every few minutes of a long training is done every few seconds.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nid_dist.benchmarks.faults.processes import COMMAND, launch_variables, log_lines
from nid_dist.evaluation.report import Column, Table
from nid_dist.parallel.launch.network import free_port
from nid_dist.progress import phase

PROCESSES, SECONDS, WARM_UP = 2, 3600.0, 300.0
_QUICK, _QUICK_WARM_UP = 15.0, 5.0  # after the first checkpoint
_EVERY, _QUICK_EVERY = 5.0, 0.5  # seconds between looks
_WINDOW = 0.1  # of the time after the warm-up, at whose begin and end medians are taken
_PATIENCE = 300.0  # seconds for the start and for the end, on a busy machine
_SETTINGS = (
    "signals.short_side=64",
    "signals.limit=4",
    "dictionary={experts: 128, width: 64, encoding: {features: 64}}",
    "coding.support=16",
    "optimizer.schedule=constant",
    "training={steps: 100000000, batch: 64, threads: 1, checkpoint_every: 25, eval_every: 50}",
    "parallel={expert_parallel_size: 2, device: cpu}",
    "logging={log_every: 1, pictures_every: 50, progress: false}",
)
_TINY = ("dictionary={experts: 32, width: 16, encoding: {features: 16}}", "signals.short_side=32", "coding.support=4")
_SPOKEN = {"rss": "resident (MB)", "pss": "proportional (MB)", "files": "open files", "threads": "threads"}


def run(quick: bool) -> tuple[dict[str, Any], Table]:
    """The figures and the table."""
    seconds, warm_up, every = (_QUICK, _QUICK_WARM_UP, _QUICK_EVERY) if quick else (SECONDS, WARM_UP, _EVERY)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run")
        with _training(path, _TINY if quick else ()) as processes:
            samples = _watch(processes, path, seconds, every)
        events = [line["event"] for line in log_lines(path)]
        steps = max(line["step"] for line in log_lines(path))
    held = [[sample[rank] for time, sample in samples if time >= warm_up] for rank in range(PROCESSES)]
    figures: dict[str, Any] = {
        "seconds": samples[-1][0],
        "warm_up_seconds": warm_up,
        "samples": len(samples),
        "steps": steps,
        "checkpoints": events.count("checkpoint"),
        "evaluations_with_pictures": events.count("eval"),
    }
    rows = []
    for rank, own in enumerate(held):
        for name, spoken in _SPOKEN.items():
            begin, end = _ends([sample[name] for sample in own])
            figures |= {f"{name}_begin_rank{rank}": begin, f"{name}_end_rank{rank}": end}
            growth = 100.0 * (end / begin - 1.0)
            figures[f"{name}_growth_percent_rank{rank}"] = growth
            most = max(sample[name] for sample in own)
            figures[f"{name}_most_rank{rank}"] = most
            rows.append((f"rank {rank}", spoken, begin, end, growth, most))
    figures["growth_percent"] = max(figures[f"rss_growth_percent_rank{rank}"] for rank in range(PROCESSES))
    figures["more_open_files"] = max(
        figures[f"files_end_rank{rank}"] - figures[f"files_begin_rank{rank}"] for rank in range(PROCESSES)
    )
    heads = [
        Column("process"),
        Column("of it"),
        Column("after the warm-up", "", ".1f"),
        Column("at the end", "", ".1f"),
    ]
    return figures, Table([*heads, Column("growth", "%", ".2f"), Column("most", "", ".1f")], rows)


@contextmanager
def _training(path: Path, settings: Sequence[str]) -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that train until the block ends; asked to stop, they must end well."""
    port = free_port()
    command = [sys.executable, "-m", COMMAND, "--config", "quickstart"]
    command += ["--set", *_SETTINGS, *settings, f"logging.run_dir={path}"]
    files = [tempfile.TemporaryFile("w+") for _ in range(PROCESSES)]  # noqa: SIM115
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1", **launch_variables(rank, PROCESSES, port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=files[rank],
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        yield processes
        for process in processes:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(_PATIENCE) for process in processes]
        if any(codes):
            raise RuntimeError(f"the training ended with {codes}: {_said(files)}")
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for file in files:
            file.close()


def _said(files: Sequence[Any]) -> str:
    for file in files:
        file.seek(0)
    return " ".join(file.read()[-2000:] for file in files)


def _watch(
    processes: Sequence["subprocess.Popen[str]"], path: Path, seconds: float, every: float
) -> list[tuple[float, list[dict[str, float]]]]:
    """What the processes hold, and the seconds since the first checkpoint, with which the time begins."""
    samples: list[tuple[float, list[dict[str, float]]]] = []
    limit = time.monotonic() + _PATIENCE
    while not any((path / "checkpoints").glob("step-*")):
        if any(process.poll() is not None for process in processes) or time.monotonic() > limit:
            raise RuntimeError(f"the training did not begin: {[process.poll() for process in processes]}")
        time.sleep(0.1)
    begin = time.monotonic()
    with phase("load", round(seconds), "s") as shown:
        while (now := time.monotonic() - begin) < seconds:
            samples.append((now, [_held(process.pid) for process in processes]))
            shown.done = round(now)
            time.sleep(every)
    return samples


def _held(pid: int) -> dict[str, float]:
    """Memory of a process in MB (10^6 bytes), its open files and its threads."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: float(text.split()[0]) for name, text in (row.split(":", 1) for row in rows)}
    return {
        "rss": kilobytes["Rss"] * 1.024e-3,
        "pss": kilobytes["Pss"] * 1.024e-3,
        "files": float(len(os.listdir(f"/proc/{pid}/fd"))),
        "threads": float(len(os.listdir(f"/proc/{pid}/task"))),
    }


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first and of the last tenth."""
    count = max(1, round(_WINDOW * len(values)))
    return statistics.median(values[:count]), statistics.median(values[-count:])
