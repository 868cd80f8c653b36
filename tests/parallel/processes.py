"""Run a function in several gloo processes on this machine."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from nid_dist.parallel.engines.deepspeed_comm import adopt_process_group
from nid_dist.parallel.launch.network import free_port


def run(function: Callable[..., Any], world: int, folder: Path, *arguments: Any) -> list[Any]:
    """Call function(rank, world, *arguments) in each process of a group.

    Args:
        function: at the top level of a module; what it returns must be tensors in plain containers.
        world: number of processes.
        folder: empty, for the rendezvous and the results.
        arguments: the same for all.

    Returns:
        What each rank returned.
    """
    multiprocessing.start_processes(
        _process, (function, world, str(folder), arguments), nprocs=world, start_method="spawn"
    )
    return [torch.load(folder / f"result-{rank}", weights_only=True) for rank in range(world)]


def spawn(function: Callable[..., Any], world: int, *arguments: Any) -> None:
    """Call function(rank, world, port, *arguments) in each of some processes, which join by themselves if they want to.

    Args:
        function: at the top level of a module.
        world: number of processes.
        arguments: the same for all; `port` is a free one, and so are probably those after it.
    """
    multiprocessing.start_processes(
        _alone, (function, world, free_port(), arguments), nprocs=world, start_method="spawn"
    )


def _alone(rank: int, function: Callable[..., Any], world: int, port: int, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    function(rank, world, port, *arguments)


def _process(rank: int, function: Callable[..., Any], world: int, folder: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    adopt_process_group()
    try:
        torch.save(function(rank, world, *arguments), f"{folder}/result-{rank}")
    finally:
        torch.distributed.destroy_process_group()
