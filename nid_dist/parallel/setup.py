"""From a configuration and a launch to a world of processes and the engine that drives its steps."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nid_dist.config.schema import Config
from nid_dist.device import resolve_device
from nid_dist.errors import UserError
from nid_dist.parallel.engines.engine import Engine, LocalEngine
from nid_dist.parallel.exchange.topology import Topology, default_expert_parallel_size
from nid_dist.parallel.launch.launching import Launch, threads_for
from nid_dist.parallel.launch.rendezvous import join
from nid_dist.parallel.world import World


def make_topology(config: Config, launch: Launch) -> Topology:
    """Which experts this process holds.

    Raises:
        UserError: when the sizes do not divide, or the engine is not for so many processes.
    """
    parallel, size = config.parallel, launch.size
    if parallel.engine == "local" and size > 1:
        raise UserError(
            "parallel.engine",
            found=f"local with {size} processes ({launch.launcher})",
            expected="deepspeed or fairscale, as local is for one process",
            hint="set parallel.engine=auto, or start one process",
        )
    experts, chosen = config.dictionary.experts, parallel.expert_parallel_size
    if chosen is not None and chosen > size:
        raise UserError(
            "parallel.expert_parallel_size",
            found=f"{chosen} with {size} process(es)",
            expected=f"at most {size}",
            hint="start more processes with a launcher (deepspeed, torchrun, mpirun, srun), or lower it",
        )
    return Topology(
        experts, size, launch.rank, chosen or default_expert_parallel_size(experts, launch.local_size, size)
    )


@contextmanager
def open_world(config: Config, launch: Launch) -> Iterator[World]:
    """The processes of a run, joined for as long as the context lasts.

    Raises:
        UserError: when the processes do not fit the configuration, or do not find each other, or there is no such
            device for each.
    """
    topology, engine = make_topology(config, launch), engine_name(config, launch)
    device = resolve_device(config.parallel.device, launch.local_rank, launch.local_size)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    elif launch.local_size > 1:
        torch.set_num_threads(threads_for(launch))
    if engine == "local":
        yield World(topology, device=device)
        return
    from nid_dist.parallel.process_group_world import ProcessGroupWorld

    join(
        launch,
        timeout_seconds=config.parallel.timeout_seconds,
        rendezvous_seconds=config.parallel.rendezvous_seconds,
        device=device,
    )
    rows = math.ceil(config.training.batch // config.optimizer.accumulation / launch.size)
    world = ProcessGroupWorld(topology, "fairscale" if engine == "fairscale" else "deepspeed", rows, device)
    yield world
    # Not after an error: the others may be waiting for an answer that does not come.
    world.close()


def make_engine(config: Config, launch: Launch, world: World) -> Engine:
    """The engine of a run.

    Raises:
        UserError: when the `deepspeed` block contradicts the configuration, or does not belong to the engine.
    """
    parallel, name = config.parallel, engine_name(config, launch)
    # With `auto` the same configuration serves one process, too, where such settings mean nothing.
    if name != "deepspeed" and parallel.engine != "auto" and (parallel.deepspeed or parallel.zero_stage):
        raise UserError(
            "parallel.deepspeed" if parallel.deepspeed else "parallel.zero_stage",
            found=f"a setting of DeepSpeed with engine {name}",
            expected="engine deepspeed",
            hint="set parallel.engine=deepspeed, or remove it",
        )
    if name == "local":
        return LocalEngine()
    from nid_dist.parallel.process_group_world import ProcessGroupWorld

    assert isinstance(world, ProcessGroupWorld)
    if name == "fairscale":
        from nid_dist.parallel.engines.fairscale_engine import FairscaleEngine

        return FairscaleEngine(world, config.optimizer.accumulation)
    from nid_dist.parallel.engines.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(world, config.optimizer.accumulation, parallel.zero_stage, parallel.deepspeed)


def engine_name(config: Config, launch: Launch) -> str:
    """The engine of a run: local, deepspeed or fairscale."""
    if config.parallel.engine == "auto":
        return "local" if launch.size == 1 else "deepspeed"
    return config.parallel.engine
