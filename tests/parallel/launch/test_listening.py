"""Stores and groups listen where they are told to, and nowhere else."""

import os
import socket
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nid_dist.parallel.launch import rendezvous
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.local_processes import run_local
from nid_dist.parallel.launch.network import free_port, listen_at, own_address

LISTENING = "0A"


def listening() -> list[str]:
    """The addresses at which this process listens, as the kernel has them."""
    own = set[str]()
    for name in os.listdir("/proc/self/fd"):
        try:
            own.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in own:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
                found.add(socket.inet_ntop(family, words))
    return sorted(found)


def meet(launch: Launch, address: str) -> list[str]:
    there = replace(launch, launcher="torchrun", address=address, local_size=launch.size)
    if not address.startswith("127."):  # as one of several machines
        there = replace(there, local_rank=0, local_size=1)
    rendezvous.join(there, timeout_seconds=60.0, rendezvous_seconds=60.0)
    found = torch.ones(1)
    torch.distributed.all_reduce(found)
    assert found.item() == launch.size
    torch.distributed.barrier()
    return listening()


def test_this_test_sees_what_listens_everywhere() -> None:
    with socket.create_server(("", 0)), socket.create_server(("127.0.0.1", 0)):
        assert {"0.0.0.0", "127.0.0.1"} <= set(listening())


@pytest.mark.parametrize("address", ["127.0.0.1", own_address()])
def test_a_job(address: str) -> None:
    found = run_local(meet, 2, address)
    assert {each for own in found for each in own} == {address}, found  # type: ignore[union-attr]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.7"])
def test_one_address(address: str) -> None:
    with listen_at(address, 0, others_elsewhere=False) as listener:
        assert listener.getsockname()[0] == address
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen_at(address, port, others_elsewhere=False)


@pytest.mark.parametrize(
    ("leads_to", "said"),
    [
        ("127.0.1.1", "node1 leads to 127.0.1.1 on its own machine: the store of this job listens at all"),
        ("192.0.2.7", "node1 leads to 192.0.2.7, which is no address of this machine: the store"),
    ],
)
def test_where_a_name_does_not_say_it_that_is_told(monkeypatch: pytest.MonkeyPatch, leads_to: str, said: str) -> None:
    port, found = free_port(), [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (leads_to, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.warns(UserWarning, match=said), listen_at("node1", port, others_elsewhere=True) as listener:
        assert listener.getsockname() == ("0.0.0.0", port)
    if leads_to.startswith("127."):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with listen_at("node1", 0, others_elsewhere=False) as listener:
                assert listener.getsockname()[0] == leads_to
