"""This project's side: the service, with a shim over it."""

import subprocess
import sys

from tests.bench.models import Model
from tests.processes import ServiceProcess


def start_service(model: Model) -> ServiceProcess:
    """Start a service on one model and wait until it is ready."""
    flags = ("--listen", "127.0.0.1:0", "--model", f"{model.name}={model.folder}", "--log-level", "warning")
    return ServiceProcess(flags)


class Servers:
    """A service on one model with a shim over it."""

    def __init__(self, model: Model) -> None:
        """Start both and wait until they are ready."""
        self._service = start_service(model)
        self.address = self._service.address
        self._shim = subprocess.Popen(
            [sys.executable, "-m", "shim", "--listen", "127.0.0.1:0", "--service", self.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._shim.stdout is not None
        self.url = self._shim.stdout.readline().split()[-1]

    @property
    def pids(self) -> list[int]:
        """Of the service, whose child is the engine, and of the shim."""
        return [self._service.process.pid, self._shim.pid]

    def stop(self) -> None:
        """End both."""
        self._shim.terminate()
        self._shim.communicate()
        self._service.stop()
