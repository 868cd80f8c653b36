"""A stop that was asked for is noted, and the second Ctrl-C is not."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from nid_dist.parallel.launch.orphans import Launchers
from nid_dist.training import stopping
from nid_dist.training.stopping import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_noted_and_said_once(number: signal.Signals) -> None:
    said: list[str] = []
    before = signal.getsignal(number)
    with StopRequest(said.append) as stop:
        assert stop.signal is None
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == number.name
    assert len(said) == 1 and said[0].startswith(number.name)
    assert signal.getsignal(number) is before


@pytest.fixture
def _foreground() -> Iterator[None]:
    """A shell lets what it starts in the background ignore Ctrl-C; here it is heard."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_foreground")
def test_the_second_ctrl_c_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_ONCE", 0.0)
    with StopRequest(lambda _: None) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_what_a_terminal_and_a_launcher_send_is_one_request(first: signal.Signals) -> None:
    with StopRequest(lambda _: None) as stop:
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # handlers run between two instructions
        assert stop.signal == first.name


def test_in_another_thread_nothing_happens() -> None:
    seen: list[str | None] = []

    def work() -> None:
        with StopRequest(lambda _: None) as stop:
            seen.append(stop.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]


def test_a_launcher_that_ends_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    above = Launchers([])
    said: list[str] = []
    with StopRequest(said.append, above) as stop:
        assert stop.look() is None
        monkeypatch.setattr(above, "ended", lambda: True)
        assert stop.look() == stop.signal == stop.look() == "the end of its launcher"
    assert len(said) == 1 and "writing a checkpoint" in said[0]
    assert stop.signal in stopping.STOPS
