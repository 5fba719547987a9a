"""The library's own server."""

import socket
import subprocess
import sys
from pathlib import Path

from service.pool.blas import engine_environment
from tests.bench.sides.baseline import THREADS

MODEL = "default_model"
"""What requests call the model that the server was started with."""
_STOP_S = 20
_AT_ONCE = 32


class LibraryServer:
    """`mlx_lm.server` on a model folder, batching as many rows as the service does."""

    def __init__(self, folder: Path) -> None:
        """Start it; it may not listen yet."""
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        flags = ["--model", folder, "--port", port, "--log-level", "ERROR"]
        flags += ["--decode-concurrency", _AT_ONCE, "--prompt-concurrency", _AT_ONCE]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlx_lm", "server", *map(str, flags)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=engine_environment(THREADS) | {"HF_HUB_OFFLINE": "1"},
        )

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(_STOP_S)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
