"""The engine's end of the socket pair. Blocking, since the engine has one thread and nothing else to do."""

import selectors
import socket

from service.engine.frames import Command, Event, Unpacker, commands, pack

_CHUNK = 1 << 18


class ServiceGone(Exception):
    """The service has closed its end, so nobody is left to work for."""


class Channel:
    """Reads commands and writes events."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock` must be a connected stream socket in blocking mode."""
        self._sock = sock
        self._unpacker = Unpacker()
        # Not select(), which takes no descriptor above 1023, and a busy service hands down a high one.
        self._readable = selectors.DefaultSelector()
        self._readable.register(sock, selectors.EVENT_READ)

    def receive(self, timeout: float) -> list[Command]:
        """All commands that are there; waits up to `timeout` seconds for the first.

        Raises ServiceGone at the end of the stream.
        """
        received: list[Command] = []
        while self._readable.select(0 if received else timeout):
            try:
                data = self._sock.recv(_CHUNK)
            except ConnectionError:
                data = b""
            if not data:
                raise ServiceGone
            received += [commands.decode(body) for body in self._unpacker.feed(data)]
        return received

    def send(self, event: Event) -> None:
        """Write one event. Raises ServiceGone where nobody reads any more."""
        try:
            self._sock.sendall(pack(event))
        except ConnectionError as error:
            raise ServiceGone from error
