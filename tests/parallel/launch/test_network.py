"""This machine's addresses and interfaces, against what the kernel lists."""

import socket

import pytest

from nid_dist.parallel.launch import network
from nid_dist.parallel.launch.network import free_port, interface_towards, own_address


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        assert listener.getsockname()[1] > 0


def test_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for _, name in socket.if_nameindex()]
    assert network._address_of("lo") == "127.0.0.1"
    assert network._address_of("no-such") is None
    assert interface_towards("no.such.host.invalid") in [None, *names]
    # Towards oneself by loopback nobody else would find this machine: the way out is taken, where there is one.
    addresses = {"127.0.0.1": "127.0.0.1", "node1": "10.0.0.7", network._ELSEWHERE: "192.168.3.4"}
    monkeypatch.setattr(network, "_source", addresses.get)
    monkeypatch.setattr(network, "_address_of", {names[0]: "192.168.3.4", names[-1]: "10.0.0.7"}.get)
    if len(names) > 1:
        assert interface_towards("127.0.0.1") == names[0]
    assert interface_towards("node1") == names[-1]
    monkeypatch.setattr(network, "_source", {"127.0.0.1": "127.0.0.1"}.get)
    assert interface_towards("127.0.0.1") == names[0]  # no way out: the first one that is not the loopback
    monkeypatch.setattr(network, "_address_of", {names[0]: "127.0.0.1"}.get)
    assert interface_towards("127.0.0.1") is None


def test_the_own_address_is_not_loopback_where_others_must_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(*addresses: str) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    monkeypatch.setattr(socket, "gethostname", lambda: "mine")
    monkeypatch.setattr(network, "_source", lambda destination: "10.1.1.1")
    resolved("127.0.1.1", "10.0.0.7")
    assert own_address() == "10.0.0.7"
    resolved("127.0.1.1")
    assert own_address() == "10.1.1.1"
    monkeypatch.setattr(network, "_source", lambda destination: None)
    assert own_address() == "mine"
