"""How processes that were started together find each other and form the default process group."""

import errno
import os
import socket
import uuid
from collections import Counter
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from nid_dist.device import gpu_identity, too_few_gpus
from nid_dist.errors import UserError
from nid_dist.parallel.launch import failures, watching
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.membership import Job, Process, answer_within, open_sockets, wait_until
from nid_dist.parallel.launch.network import LOOPBACK, interface_towards, listen_at

_CPU = torch.device("cpu")
_LIMIT = "parallel.rendezvous_seconds"
_LOOK_UP = 20.0  # seconds


def join(launch: Launch, *, timeout_seconds: float, rendezvous_seconds: float, device: torch.device = _CPU) -> None:
    """Initialise the default process group of `torch.distributed`; all processes call this.

    Args:
        timeout_seconds: after which a rank that does not answer ends the job, in this group and all later ones.
        device: of this process; GPUs speak by nccl, CPUs by gloo.

    Raises:
        UserError: when the processes do not find each other, or two of them have the same GPU.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    job = _meet(launch, timeout_seconds, rendezvous_seconds)
    _assemble(job, launch, rendezvous_seconds, gpu_identity(device))
    _refuse_shared_gpus(job)
    if "GLOO_SOCKET_IFNAME" not in os.environ:  # of the processes, whatever their GPUs speak
        one_machine = launch.local_size == launch.size
        interface = "lo" if one_machine else interface_towards(launch.address)
        if interface is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = interface
    timeout = timedelta(seconds=timeout_seconds)
    _set_default_timeout(timeout)
    store = dist.PrefixStore("group", job.store)
    if backend == "nccl":
        watching.leave_nccl_to_watch()
    elif launch.size > 1:
        # The address of a process that has ended would be waited for as long as a rank may be silent.
        watching.start(job)
    dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.size, timeout=timeout)
    if backend == "nccl" and launch.size > 1:
        watching.start(job)


def _refuse_shared_gpus(job: Job) -> None:
    """Raise, on all ranks, where launchers have shown the same GPU to two processes."""
    shared = [gpu for gpu, count in Counter(each.gpu for each in job.processes).items() if gpu and count > 1]
    machine = next((each.machine for each in job.processes if each.gpu in shared), None)
    if machine is not None:
        here = [each.gpu for each in job.processes if each.machine == machine]
        raise too_few_gpus(len(here), len(set(here)))


def _meet(launch: Launch, timeout_seconds: float, rendezvous_seconds: float) -> Job:
    """Open the store, by which the job gets its identity."""
    # torchrun's own process keeps the store, and gives a restarted group a new one, or the same one again.
    elastic = launch.launcher == "torchrun" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if launch.launcher == "torchrun" else "0"
    waiting = timedelta(seconds=rendezvous_seconds)
    if launch.size > 1:
        _resolve(launch.address)
    if launch.rank == 0 and not elastic:
        store = _listen(launch, waiting)
    else:
        store = _connect(launch.address, launch.port, rendezvous_seconds, waiting)
    own = dist.PrefixStore(f"nid_dist/{attempt}", store)
    identity = own.compare_set("identity", "", uuid.uuid4().hex).decode()
    return Job(own, identity, launch.rank, store.port, None if elastic else 0, timeout_seconds)


def _listen(launch: Launch, waiting: timedelta) -> Any:
    """Rank 0's store, at the address under which the others look for it, and at no other."""
    address, port = (launch.address, launch.port) if launch.size > 1 else (LOOPBACK, 0)
    try:
        listener = listen_at(address, port, others_elsewhere=launch.local_size < launch.size)
        host, port = listener.getsockname()[:2]
        return dist.TCPStore(
            LOOPBACK if host == "0.0.0.0" else host,  # where rank 0 itself finds it
            port,
            None,
            is_master=True,
            timeout=waiting,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),  # by itself it would listen at all of the machine's addresses
        )
    except (RuntimeError, OSError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        raise UserError(
            f"port {port}",
            found="in use by another program" if taken else str(error).splitlines()[0],
            expected="a free one, where rank 0 of this job listens",
            hint="choose another (deepspeed and torchrun: --master_port; otherwise MASTER_PORT)",
        ) from error


def _resolve(address: str) -> None:
    try:
        socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"address {address}",
            found=f"no machine of that name ({getattr(error, 'strerror', None) or error})",
            expected="rank 0's machine",
            hint="correct it (deepspeed: --master_addr or the hostfile; torchrun: --rdzv_endpoint; else MASTER_ADDR)",
        ) from error


def _connect(address: str, port: int, seconds: float, waiting: timedelta) -> Any:
    reason = OSError("no answer")

    # PyTorch's own attempts would each write a page to stderr.
    def listening() -> bool:
        nonlocal reason
        try:
            socket.create_connection((address, port), max(0.1, min(5.0, seconds))).close()
        except OSError as error:
            reason = error
            return False
        return True

    if not wait_until(seconds, listening):
        failures.miss_first()
        raise UserError(
            f"rank 0 at {address}, port {port}",
            found=f"no answer for {seconds:g} s ({_LIMIT}; {reason.strerror or reason})",
            expected="the job's first process to listen there",
            hint="see why it has not started, or whether address, port or a firewall are wrong",
        ) from reason
    # A store answers at once, but may first look up this machine's name, in vain and for seconds.
    try:
        return answer_within(
            max(_LOOK_UP, seconds),
            lambda: dist.TCPStore(address, port, None, is_master=False, timeout=waiting, wait_for_workers=False),
        )
    except (RuntimeError, TimeoutError) as error:
        raise UserError(
            f"rank 0 at {address}, port {port}",
            found="a program that does not answer as this job's first process would",
            expected="that process",
            hint="choose another port (deepspeed and torchrun: --master_port; otherwise MASTER_PORT)",
        ) from error


def _assemble(job: Job, launch: Launch, seconds: float, gpu: str) -> None:
    """Wait until all processes have come, and learn who they are."""
    meeting = f"{launch.address}, port {launch.port}"
    try:
        if not job.publish(Process.this(job.rank, gpu)):
            raise UserError(
                f"rank {job.rank} at {meeting}",
                found="another process with this rank",
                expected="one process of each rank",
                hint="choose another port for this job, or give every process a rank of its own",
            )
        failures.remember(job)  # not before: a job that has this rank already is another one, which has its own say
        job.store.add("come", 1)

        def complete() -> bool:
            # One that gives up makes all give up, so that it is said once and nobody waits any longer.
            return bool(job.store.add("come", 0) >= launch.size or job.store.check(["given up"]))

        if not wait_until(seconds, complete) or job.store.add("come", 0) < launch.size:
            job.store.set("given up", "1")
        found = [job.published(rank) for rank in range(launch.size)]
    except RuntimeError as error:
        raise UserError(
            f"rank 0 at {meeting}",
            found="it ended before all processes had come",
            expected="it to wait for them",
            hint="see its own messages",
        ) from error
    job.processes, job.sockets = [process for process in found if process is not None], open_sockets()
    missing = [str(rank) for rank, process in enumerate(found) if process is None]
    if missing:
        raise UserError(
            f"rank{'s' if len(missing) > 1 else ''} {', '.join(missing[:8])}{' ...' if len(missing) > 8 else ''}",
            found=f"not at {meeting} after {seconds:g} s ({_LIMIT}), where {len(job.processes)} of {launch.size} are",
            expected=f"all {launch.size} processes",
            hint="see why they have not started, or whether they were given the same address and port",
        )


def _set_default_timeout(timeout: timedelta) -> None:
    # Groups made later, by DeepSpeed among others, do not inherit the default group's: theirs would be half an hour.
    from torch.distributed import distributed_c10d

    distributed_c10d.default_pg_timeout = timeout
    distributed_c10d.default_pg_nccl_timeout = timeout
