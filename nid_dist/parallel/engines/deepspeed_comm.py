"""DeepSpeed's communication on top of a process group that exists."""

import os

import torch.distributed as dist


def adopt_process_group() -> None:
    """Let DeepSpeed use the default process group, without compiling anything.

    On CPU `init_distributed` would build the operator `deepspeed_shm_comm`, which takes a minute, needs a compiler, and
    hangs on the lock that a killed build leaves behind. Nothing here uses it, nor any other of DeepSpeed's operators:
    the table of those that could be built is left empty, since to fill it DeepSpeed runs a compiler in every process.
    """
    if dist.get_backend() in ("gloo", "fake"):
        os.environ["DS_ACCELERATOR"] = "cpu"  # or it takes a GPU that is there, or warns that it has found none

    import deepspeed
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__ = {}
    deepspeed.init_distributed(dist_backend=dist.get_backend(), auto_mpi_discovery=False, verbose=False)


def leave_process_group() -> None:
    """Destroy the default process group, and the groups that DeepSpeed remembers with it."""
    import deepspeed.comm

    deepspeed.comm.destroy_process_group()
