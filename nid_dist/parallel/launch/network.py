"""This machine on the network: its address, a free port, the interface that leads to another machine."""

import errno
import fcntl
import random
import socket
import struct
import warnings

LOOPBACK = "127.0.0.1"

_ELSEWHERE = "192.0.2.1"  # of a block that is kept for documentation: nobody has it, and nothing is sent there
_OUTGOING = 32768  # Linux gives the ports from here on to connections that go out, so that one may be taken at any time
_WAITING = 4096  # connections at once, of processes that start together
_SIOCGIFADDR = 0x8915  # ioctl: the IPv4 address of an interface


def own_address() -> str:
    """An address under which other machines find this one: its name's, or else that of its way out."""
    name = socket.gethostname()
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(name, None, socket.AF_INET)]
    except OSError:
        found = []
    # Many a machine's own name leads to 127.0.1.1 on itself.
    return next((address for address in found if not address.startswith("127.")), _source(_ELSEWHERE) or name)


def free_port() -> int:
    """A TCP port that nobody listens on, outside those of outgoing connections; somebody may before it is used."""
    for port in random.SystemRandom().choices(range(10000, _OUTGOING), k=100):  # a training's seed does not decide this
        with socket.socket() as listener:
            try:
                listener.bind(("", port))
            except OSError:
                continue
            return port
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def listen_at(address: str, port: int, *, others_elsewhere: bool) -> socket.socket:
    """A socket that listens at an address of this machine, and at no other, where that is possible.

    Args:
        address: a number, or a name that leads to this machine.
        port: 0: a free one.
        others_elsewhere: whether processes on other machines are to reach it.

    Raises:
        OSError: the port is in use.
    """
    family, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    host = str(place[0])
    reason = f"leads to {host} on its own machine"
    # Many a machine's own name leads to 127.0.1.1 on itself, and elsewhere to its address.
    if host == address or not (others_elsewhere and host.startswith("127.")):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_WAITING)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            reason = f"leads to {host}, which is no address of this machine"
    warnings.warn(f"{address} {reason}: the store of this job listens at all of its addresses", stacklevel=2)
    return socket.create_server(("", port), backlog=_WAITING)


def interface_towards(address: str) -> str | None:
    """The name of the network interface through which this machine reaches another (or itself), for gloo.

    Where the address leads no further than this machine, it is that of its way out, or else any that is not the
    loopback; None: there is no other.
    """
    source = _source(address)
    if source is None or source.startswith("127."):
        source = _source(_ELSEWHERE)
    addresses = {name: _address_of(name) for _, name in socket.if_nameindex()}
    outside = [name for name, own in addresses.items() if own is not None and not own.startswith("127.")]
    # A cluster's own network may have no way out.
    return next((name for name in outside if addresses[name] == source), outside[0] if outside else None)


def _source(destination: str) -> str | None:
    """The address that packets to there would carry; connecting a UDP socket sends none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((destination, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _address_of(interface: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])
