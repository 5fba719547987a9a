"""The engine's end of the socket pair."""

import fcntl
import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from service.engine.channel import Channel, ServiceGone
from service.engine.frames import Abort, Event, Heartbeat, Row, Step, Unpacker, events, pack

HIGH = 1100
"""A descriptor that select() does not take."""


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), theirs


Pair = tuple[Channel, socket.socket]


def test_all_that_is_there_is_received(pair: Pair) -> None:
    """In one call and in its order; half a message waits for its rest."""
    channel, service = pair
    last = pack(Abort(3))
    service.sendall(pack(Abort(1)) + pack(Abort(2)) + last[:5])
    assert channel.receive(5) == [Abort(1), Abort(2)]
    service.sendall(last[5:])
    assert channel.receive(5) == [Abort(3)]


def test_nothing_is_waited_for_no_longer_than_asked(pair: Pair) -> None:
    """A busy engine does not wait at all, an idle one for a heartbeat's time."""
    channel, _ = pair
    assert channel.receive(0) == []
    began = time.monotonic()
    assert channel.receive(0.1) == []
    assert 0.1 <= time.monotonic() - began < 2


def test_a_command_ends_the_wait(pair: Pair) -> None:
    """It is not held back until the time is over."""
    channel, service = pair
    threading.Timer(0.05, service.sendall, [pack(Abort(1))]).start()
    began = time.monotonic()
    assert channel.receive(30) == [Abort(1)]
    assert time.monotonic() - began < 10


def test_the_end_of_the_stream_is_told(pair: Pair) -> None:
    """A service that is gone has nothing more to say, in reading or writing."""
    channel, service = pair
    service.close()
    with pytest.raises(ServiceGone):
        channel.receive(5)
    with pytest.raises(ServiceGone):
        channel.send(Heartbeat())


def test_a_large_event_arrives_whole(pair: Pair) -> None:
    """Larger than the socket's buffer, so that it is written in parts."""
    channel, service = pair
    step = Step([Row(1, list(range(500_000)))])
    sending = threading.Thread(target=channel.send, args=[step])
    sending.start()
    unpacker = Unpacker()
    found: list[Event] = []
    while not found:
        found = [events.decode(body) for body in unpacker.feed(service.recv(1 << 16))]
    sending.join()
    assert found == [step]


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Allow twice as many as are needed to come to HIGH."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2 * HIGH), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("many_descriptors")
def test_a_high_descriptor_is_as_good_as_any() -> None:
    """The service hands one down when it has many connections."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, HIGH)) as moved:
        assert moved.fileno() >= HIGH
        channel = Channel(moved)
        assert channel.receive(0) == []
        theirs.sendall(pack(Abort(1)))
        assert channel.receive(5) == [Abort(1)]
        channel.send(Heartbeat())
        assert theirs.recv(1 << 10) == pack(Heartbeat())


def test_another_thread_may_end_the_wait(pair: Pair) -> None:
    """Once for any number of calls, whether it has begun or not; commands are received as ever."""
    channel, service = pair
    threading.Timer(0.1, channel.wake).start()
    began = time.monotonic()
    assert channel.receive(30) == []
    assert time.monotonic() - began < 10
    for _ in range(100_000):
        channel.wake()
    service.sendall(pack(Abort(1)))
    assert channel.receive(30) == [Abort(1)]
    began = time.monotonic()
    assert channel.receive(0.1) == []
    assert time.monotonic() - began >= 0.1
