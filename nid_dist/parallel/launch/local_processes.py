"""A function in several processes of this machine, without a launcher."""

import json
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from nid_dist.errors import UserError
from nid_dist.memory import out_of_memory
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.network import LOOPBACK, free_port
from nid_dist.parallel.world import JSON


def run_local(function: Callable[..., JSON], processes: int, *arguments: Any) -> list[JSON]:
    """Call function(launch, *arguments) in each of some new processes, one thread each, and wait for all.

    Args:
        function: at the top level of a module; what it returns is a JSON value.
        arguments: the same for all.

    Raises:
        UserError: that of the first process that failed; the others are ended.
        RuntimeError: any other failure, with the traceback.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, lost = Path(name), None
        given = (function, processes, free_port(), folder, arguments)
        try:
            multiprocessing.start_processes(_process, given, nprocs=processes, start_method="spawn")
        except multiprocessing.ProcessExitedException as error:
            lost = error
        # In the order in which they came: where one fails, others do because of it.
        paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        answers = [json.loads(path.read_text()) for path in paths]
    for answer in answers:
        if "user_error" in answer:
            raise UserError(**answer["user_error"])
        if "error" in answer:
            raise RuntimeError(f"process {answer['rank']} of {processes}:\n{answer['error']}") from lost
    if lost is not None:
        raise RuntimeError(str(lost)) from lost
    return [answer["value"] for answer in sorted(answers, key=lambda answer: int(answer["rank"]))]


def _process(
    rank: int, function: Callable[..., JSON], size: int, port: int, folder: Path, arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    launch = Launch("none", rank, size, rank, size, LOOPBACK, port)
    failed = True
    try:
        text = json.dumps({"rank": rank, "value": function(launch, *arguments)})
        failed = False
    except UserError as error:
        text = json.dumps({"rank": rank, "user_error": vars(error)})
    except Exception as error:
        full = out_of_memory(error)
        answer = {"error": traceback.format_exc()} if full is None else {"user_error": vars(full)}
        text = json.dumps({"rank": rank, **answer})
    temporary = folder / f".{rank}.tmp"
    temporary.write_text(text)
    temporary.rename(folder / f"{rank}.json")
    if failed:
        # Leaving in order may wait for processes that wait for this one.
        os._exit(1)
