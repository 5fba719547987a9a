"""The engine's end of the socket pair. Blocking, since the engine has one thread and nothing else to do."""

import os
import selectors
import socket
from contextlib import suppress

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
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        self._readable.register(self._woken, selectors.EVENT_READ)

    def receive(self, timeout: float) -> list[Command]:
        """All commands that are there; waits up to `timeout` seconds for the first, or until it is woken.

        Raises ServiceGone at the end of the stream.
        """
        received: list[Command] = []
        woken = False
        while ready := self._readable.select(0 if received or woken else timeout):
            if any(key.fd == self._woken for key, _ in ready):
                woken = True
                with suppress(BlockingIOError):
                    os.read(self._woken, _CHUNK)
            if not any(key.fileobj is self._sock for key, _ in ready):
                continue
            try:
                data = self._sock.recv(_CHUNK)
            except ConnectionError:
                data = b""
            if not data:
                raise ServiceGone
            received += [commands.decode(body) for body in self._unpacker.feed(data)]
        return received

    def wake(self) -> None:
        """End the wait of `receive`, or the next one. Other threads may call it."""
        with suppress(BlockingIOError):  # full of such calls
            os.write(self._waker, b"\0")

    def send(self, event: Event) -> None:
        """Write one event. Raises ServiceGone where nobody reads any more."""
        try:
            self._sock.sendall(pack(event))
        except ConnectionError as error:
            raise ServiceGone from error
